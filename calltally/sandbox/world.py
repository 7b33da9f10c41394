"""The whole sandbox: four providers, and how they reach the one who listens to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from calltally.sandbox.calls import Call
from calltally.sandbox.deliveries import FAIR_WEATHER, DeliveryPlan, Weather, plan_deliveries
from calltally.sandbox.sending import (
    DEFAULT_CONCURRENCY,
    NO_RETRIES,
    STRIPE_RETRIES,
    Retries,
    SendReport,
    Target,
    send_now,
)
from calltally.sandbox.signing import Signer, StripeSignature, VapiBearer, VapiSigner
from calltally.sandbox.slack import SlackWorld
from calltally.sandbox.stripe import DEFAULT_SIGNING_SECRET, Event, StripeWorld
from calltally.sandbox.twilio import TwilioWorld
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_webhooks import messages_about

DEFAULT_VAPI_SECRET = "vapi-sandbox-secret"  # noqa: S105  # opens nothing but the sandbox


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was meant to happen and what did."""

    plan: DeliveryPlan
    report: SendReport


class NoTarget(Exception):  # reads as the sentence it is
    """A delivery was asked for, and neither the call nor the sandbox names an endpoint."""


class Sandbox:
    """State of the four providers; `vapi` may be made beforehand, with another key or cache size.

    `vapi_target` and `stripe_target` are webhook URLs, used when a delivery names none. `clock` gives the
    time of signatures and of what happens "now".
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        vapi: VapiWorld | None = None,
        vapi_target: str | None = None,
        stripe_target: str | None = None,
        vapi_signer: VapiSigner | None = None,
        stripe_secrets: tuple[str, ...] = (DEFAULT_SIGNING_SECRET,),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.vapi = VapiWorld(seed=seed) if vapi is None else vapi
        self.stripe = StripeWorld(seed=seed)
        self.slack = SlackWorld()
        self.twilio = TwilioWorld(seed=seed)
        self.clock = clock
        self.seed = seed
        self.vapi_target = vapi_target
        self.stripe_target = stripe_target
        self.vapi_signer = vapi_signer or VapiBearer(DEFAULT_VAPI_SECRET)
        self.stripe_secrets = stripe_secrets
        self._sent_calls: set[str] = set()
        self._lock = threading.Lock()

    def deliver_calls(
        self,
        calls: Iterable[Call],
        *,
        url: str | None = None,
        weather: Weather = FAIR_WEATHER,
        seed: int | str | None = None,
        retries: Retries = NO_RETRIES,
        report_never_connected: bool = False,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> Delivered:
        """Send all webhooks about these calls; Vapi does not retry unless told to."""
        chosen = list(calls)
        messages = messages_about(chosen, report_never_connected=report_never_connected)
        plan = plan_deliveries(messages, weather, seed=self.seed if seed is None else seed)
        target = Target(_named(url, self.vapi_target), self.vapi_signer, retries)
        report = send_now(plan.deliveries, target, concurrency=concurrency, clock=self._unix_seconds)
        with self._lock:
            self._sent_calls.update(call.id for call in chosen if call.status == "ended")
        return Delivered(plan, report)

    def deliver_events(
        self,
        events: Iterable[Event],
        *,
        url: str | None = None,
        weather: Weather = FAIR_WEATHER,
        seed: int | str | None = None,
        retries: Retries = STRIPE_RETRIES,
        signer: Signer | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> Delivered:
        """Send these Stripe events; those accepted count as delivered in `GET /v1/events`."""
        messages = self.stripe.messages(events)
        plan = plan_deliveries(messages, weather, seed=self.seed if seed is None else seed)
        target = Target(_named(url, self.stripe_target), signer or StripeSignature(self.stripe_secrets), retries)
        report = send_now(plan.deliveries, target, concurrency=concurrency, clock=self._unix_seconds)
        self.stripe.mark_delivered(report.accepted_ids)
        return Delivered(plan, report)

    def unsent_calls(self) -> list[Call]:
        """Return the ended calls whose webhooks have not been sent or lost yet, newest first."""
        with self._lock:
            sent = set(self._sent_calls)
        return [call for call in self.vapi.calls() if call.status == "ended" and call.id not in sent]

    def undelivered_events(self) -> list[Event]:
        """Return the Stripe events that no endpoint has accepted, newest first."""
        return [event for event in self.stripe.events() if not self.stripe.is_delivered(event)]

    def _unix_seconds(self) -> float:
        return self.clock().timestamp()


def _named(url: str | None, default: str | None) -> str:
    chosen = url or default
    if chosen is None:
        raise NoTarget("no webhook URL was given")
    return chosen
