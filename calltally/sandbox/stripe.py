"""Stripe's world: payments, and the events that tell of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Literal

from calltally.sandbox import stripe_objects
from calltally.sandbox.faults import FaultQueue
from calltally.sandbox.messages import Message
from calltally.sandbox.stripe_objects import API_VERSION, Payment, new_stripe_id
from calltally.sandbox.wire import JsonObject, encode_json, to_ms

DEFAULT_API_KEY = "sk_test_sandbox"
DEFAULT_SIGNING_SECRET = "whsec_sandbox"  # noqa: S105  # opens nothing but the sandbox

Settlement = Literal["at_once", "later", "refused_later"]
RefundOutcome = Literal["at_once", "later", "fails", "never"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the envelope that Stripe would send, apart from `pending_webhooks`."""

    id: str
    type: str
    at_ms: int
    envelope: JsonObject

    @property
    def created(self) -> int:
        """Unix seconds."""
        return self.at_ms // 1000


@dataclass(frozen=True, slots=True)
class TopUp:
    """One payment with everything it caused so far."""

    payment: Payment
    payment_intent_id: str
    session_id: str
    charge_id: str
    events: tuple[Event, ...]


class StripeWorld:
    """Events of one Stripe account in test mode; may be changed from any thread while it is served."""

    def __init__(self, *, seed: int = 0, api_key: str = DEFAULT_API_KEY) -> None:
        self.api_key = api_key
        self.faults = FaultQueue()
        self.webhook_endpoints: list[JsonObject] = []
        self.event_destinations: list[JsonObject] = []
        self.asked: list[str] = []
        """The objects and lists that were asked for, as paths with their query."""
        self._random = Random(seed)  # noqa: S311  # invented data, and it must repeat
        self._events: list[Event] = []
        self._delivered: set[str] = set()
        self._refunded_minor: dict[str, int] = {}
        self._topups: dict[str, TopUp] = {}
        self._objects: dict[str, JsonObject] = {}
        self._lock = threading.RLock()

    def pay_topup(
        self,
        payment: Payment,
        *,
        at: datetime,
        settlement: Settlement = "at_once",
        settles_after: timedelta = timedelta(days=3),
    ) -> TopUp:
        """Pay through Checkout.

        A card settles at once: both `checkout.session.completed` and `payment_intent.succeeded`. A delayed
        method completes the Checkout Session unpaid and settles, or is refused, `settles_after` later.
        """
        with self._lock:
            intent_id, session_id, charge_id = (self._new_id(prefix) for prefix in ("pi", "cs_test", "ch"))
            at_once = settlement == "at_once"
            settled_at = at if at_once else at + settles_after
            succeeded = settlement != "refused_later"
            events = [self._session_event("completed", session_id, intent_id, payment, at, paid=at_once)]
            intent = stripe_objects.payment_intent(
                intent_id, charge_id, payment, to_ms(at) // 1000, succeeded=succeeded
            )
            outcome = "succeeded" if succeeded else "payment_failed"
            events.append(self.emit(f"payment_intent.{outcome}", intent, at=settled_at))
            if not at_once:
                name = "async_payment_succeeded" if succeeded else "async_payment_failed"
                events.append(self._session_event(name, session_id, intent_id, payment, settled_at, paid=succeeded))
            topup = TopUp(payment, intent_id, session_id, charge_id, tuple(events))
            self._topups[intent_id] = topup
            return topup

    def refund(
        self, topup: TopUp, amount_minor: int, *, at: datetime, outcome: RefundOutcome = "at_once"
    ) -> tuple[Event, ...]:
        """Give back part of a payment, at most what is left of it; `refund.created` and `charge.refunded` tell of it.

        `later`: it is pending first, and `refund.updated` tells that it succeeded. `fails`: it succeeds, then
        `refund.updated` and `refund.failed` tell that the money came back; `never`: the same without success.
        """
        with self._lock:
            intent_id, payment = topup.payment_intent_id, topup.payment
            refunded_minor = self._refunded_minor.get(intent_id, 0) + amount_minor
            if not 0 < amount_minor <= refunded_minor <= payment.amount_minor:
                raise ValueError("a refund cannot exceed what is left of the payment")
            failed = outcome in {"fails", "never"}
            self._refunded_minor[intent_id] = refunded_minor - (amount_minor if failed else 0)
            refund_id, created = self._new_id("re"), to_ms(at) // 1000

            def tell(name: str, status: str) -> Event:
                refund = stripe_objects.refund(
                    refund_id,
                    charge_id=topup.charge_id,
                    payment_intent_id=intent_id,
                    amount_minor=amount_minor,
                    currency=payment.currency,
                    created=created,
                    status=status,
                )
                return self.emit(f"refund.{name}", refund, at=at)

            charge = stripe_objects.charge(
                topup.charge_id, intent_id, payment, topup.events[0].created, refunded_minor=refunded_minor
            )
            waits = outcome in {"later", "never"}
            told = [tell("created", "pending" if waits else "succeeded"), self.emit("charge.refunded", charge, at=at)]
            if outcome == "later":
                told.append(tell("updated", "succeeded"))
            if failed:
                told += [tell("updated", "failed"), tell("failed", "failed")]
            return tuple(told)

    def dispute(
        self, topup: TopUp, amount_minor: int, *, at: datetime, reinstated_minor: int | None = None
    ) -> tuple[Event, ...]:
        """Let the customer's bank take the money back: opened, withdrawn, closed.

        With `reinstated_minor` the dispute is won and so much of the money comes back, else it is lost.
        """
        with self._lock:
            dispute_id, created = self._new_id("dp"), to_ms(at) // 1000

            def tell(name: str, status: str, *moved_minor: int) -> Event:
                dispute = stripe_objects.dispute(
                    dispute_id,
                    charge_id=topup.charge_id,
                    payment_intent_id=topup.payment_intent_id,
                    amount_minor=amount_minor,
                    currency=topup.payment.currency,
                    created=created,
                    status=status,
                    moved_minor=moved_minor,
                )
                return self.emit(f"charge.dispute.{name}", dispute, at=at)

            told = [tell("created", "needs_response"), tell("funds_withdrawn", "needs_response", -amount_minor)]
            if reinstated_minor is None:
                return (*told, tell("closed", "lost", -amount_minor))
            moved = (-amount_minor, reinstated_minor)
            return (*told, tell("closed", "won", *moved), tell("funds_reinstated", "won", *moved))

    def topup(self, payment_intent_id: str) -> TopUp:
        """Return a payment by its id.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return self._topups[payment_intent_id]

    def emit(self, event_type: str, data_object: JsonObject, *, at: datetime) -> Event:
        """Record an event of any type around this object."""
        with self._lock:
            event_id, request_id = self._new_id("evt"), self._new_id("req")
            envelope: JsonObject = {
                "id": event_id,
                "object": "event",
                "api_version": API_VERSION,
                "created": to_ms(at) // 1000,
                "data": {"object": data_object},
                "livemode": False,
                "request": {"id": request_id, "idempotency_key": None},
                "type": event_type,
            }
            event = Event(event_id, event_type, to_ms(at), envelope)
            self._events.append(event)
            self.keep(data_object)
            return event

    def keep(self, shown: JsonObject) -> None:
        """Let the API show this object from now on."""
        with self._lock:
            self._objects[shown["id"]] = shown

    def objects(self, kind: str) -> list[JsonObject]:
        """Return the objects of that kind as they are now."""
        with self._lock:
            return [shown for shown in self._objects.values() if shown["object"] == kind]

    def bill(self, payment_intent_id: str, invoice: JsonObject) -> None:
        """Let a payment be that of an invoice."""
        self.keep(invoice)
        self.keep(stripe_objects.invoice_payment(payment_intent_id, invoice))

    def thin_messages(self, events: Iterable[Event]) -> list[Message]:
        """Return the thin messages of these events, as an endpoint that is set up so gets them."""
        thin = [(event, stripe_objects.thin_event(f"{event.id}thin", event.envelope)) for event in events]
        return [Message(body["id"], body["type"], event.at_ms, encode_json(body)) for event, body in thin]

    def messages(self, events: Iterable[Event] | None = None) -> list[Message]:
        """Return the webhook messages of these events, of all when none are named."""
        with self._lock:
            chosen = self._events if events is None else events
            return [
                Message(event.id, event.type, event.at_ms, encode_json({**event.envelope, "pending_webhooks": 1}))
                for event in chosen
            ]

    def mark_delivered(self, event_ids: Iterable[str]) -> None:
        """Note which events the endpoint has accepted."""
        with self._lock:
            self._delivered.update(event_ids)

    def is_delivered(self, event: Event) -> bool:
        """Whether the endpoint has accepted this event."""
        return event.id in self._delivered

    def events(self) -> list[Event]:
        """Return all events, newest first; of one second, the latest recorded first."""
        with self._lock:
            return sorted(self._events, key=lambda event: event.created)[::-1]

    def shown(self, event: Event) -> JsonObject:
        """Return the event as the API shows it now."""
        return {**event.envelope, "pending_webhooks": 0 if self.is_delivered(event) else 1}

    def _session_event(
        self,
        name: str,
        session_id: str,
        payment_intent_id: str,
        payment: Payment,
        at: datetime,
        *,
        paid: bool,
    ) -> Event:
        session = stripe_objects.checkout_session(
            session_id, payment_intent_id, payment, to_ms(at) // 1000, paid=paid
        )
        return self.emit(f"checkout.session.{name}", session, at=at)

    def _new_id(self, prefix: str) -> str:
        return new_stripe_id(prefix, self._random)
