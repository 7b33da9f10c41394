"""What people may order at `/control`; each class is the JSON body of one route."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from calltally.sandbox.deliveries import FAIR_WEATHER, Weather
from calltally.sandbox.faults import Fault, html_fault
from calltally.sandbox.stripe import RefundOutcome, Settlement
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.wire import encode_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Order = TypeVar("Order", bound="DataclassInstance")


class BadOrder(Exception):  # the person at the terminal sees its words
    """The body is not what the route expects."""


@dataclass(frozen=True, slots=True)
class DeliverCalls:
    """Send the webhooks of these calls, or of all ended calls not sent before."""

    call_ids: tuple[str, ...] | None = None
    url: str | None = None
    weather: Weather = FAIR_WEATHER
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class DeliverEvents:
    """Send all Stripe events that no endpoint has accepted yet."""

    url: str | None = None
    weather: Weather = FAIR_WEATHER
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class PayTopUp:
    """Pay a top-up, now unless `at` is given; it is sent unless `deliver` is false."""

    payment: Payment
    settlement: Settlement = "at_once"
    at: datetime | None = None
    deliver: bool = True
    url: str | None = None
    weather: Weather = FAIR_WEATHER


@dataclass(frozen=True, slots=True)
class Refund:
    """Give back a part of a payment (`pi_…`); what tells of it is sent unless `deliver` is false."""

    payment_intent: str
    amount_minor: int
    outcome: RefundOutcome = "at_once"
    deliver: bool = True
    url: str | None = None
    weather: Weather = FAIR_WEATHER


@dataclass(frozen=True, slots=True)
class Dispute:
    """Dispute a payment (`pi_…`); with `reinstated_minor` it is won, else lost."""

    payment_intent: str
    amount_minor: int
    reinstated_minor: int | None = None
    deliver: bool = True
    url: str | None = None
    weather: Weather = FAIR_WEATHER


@dataclass(frozen=True, slots=True)
class CorrectCall:
    """Change an ended call; `cost` is USD as text."""

    duration_ms: int | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class FinishCall:
    """End a running call."""

    duration_ms: int = 25_000


@dataclass(frozen=True, slots=True)
class SpoilAnswers:
    """Spoil the next answers of a provider; `html` sends a page instead of `body`."""

    status: int | None = None
    body: Any = None
    html: bool = False
    times: int = 1
    retry_after_seconds: float | None = None
    delay_seconds: float = 0.0
    breaks_connection: bool = False
    path_prefix: str = "/"

    def fault(self) -> Fault:
        """Return the fault to queue."""
        if self.html:
            return html_fault(self.status or 521, path_prefix=self.path_prefix)
        is_text = isinstance(self.body, str)
        return Fault(
            status=self.status,
            body=self.body.encode() if is_text else encode_json(self.body or {}),
            content_type="text/plain" if is_text else "application/json",
            retry_after_seconds=self.retry_after_seconds,
            delay_seconds=self.delay_seconds,
            breaks_connection=self.breaks_connection,
            path_prefix=self.path_prefix,
        )


def read_order(raw: bytes, kind: type[Order], **defaults: Any) -> Order:
    """Return the body as this class; a field that the class does not know is refused."""
    try:
        given = json.loads(raw) if raw else {}
        unknown = set(given) - {field.name for field in fields(kind)}
        if unknown:
            raise BadOrder(f"unknown fields: {', '.join(sorted(unknown))}")
        return msgspec.convert({**defaults, **given}, kind)
    except (TypeError, ValueError) as error:
        raise BadOrder(str(error)) from error
