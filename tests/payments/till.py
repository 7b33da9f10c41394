"""What the tests of payments have in common: events of Stripe's, a worker without Prefect, and Stripe to be asked."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billing import applying, inbox
from billing.applying import Asked
from billing.deliveries import Delivery, identify_stripe
from billing.settings import get_settings
from billing.stripe_client import ask
from calltally.sandbox.stripe import Event, StripeWorld
from tests.books import Books, Row
from tests.databases import Scratch
from tests.payloads import content, encode

ORG = "org_id"


@dataclass(frozen=True)
class Till:
    """Books on one side, Stripe on the other; what Stripe is asked goes over HTTP."""

    scratch: Scratch
    stripe: StripeWorld

    @property
    def books(self) -> Books:
        """The books as the application has them."""
        return self.scratch.books

    def wallet(self, customer: str | None = None, currency: str = "USD") -> UUID:
        """An organization with an empty wallet, linked with that customer."""
        organization_id: UUID = self.books.value(
            "SELECT create_organization(:name, 'a@example.com', :currency, p_stripe_customer_id => :customer)",
            name=f"Acme {customer} {currency}",
            currency=currency,
            customer=customer,
        )
        return organization_id

    def tell(self, *events: dict[str, Any] | bytes) -> None:
        """Let them arrive one after the other, each applied before the next."""
        for event in events:
            self.tell_together(event)

    def tell_together(self, *events: dict[str, Any] | bytes) -> None:
        """Let them arrive at once."""
        bodies = [event if isinstance(event, bytes) else encode(event) for event in events]
        inbox.accept(self.scratch.engine, [delivery(body) for body in bodies])
        self.work()

    def tell_of(self, events: Iterable[Event], *, thin: bool = False) -> None:
        """The same for the sandbox's events."""
        messages = self.stripe.thin_messages(events) if thin else self.stripe.messages(events)
        self.tell(*(message.body for message in messages))

    def work(self) -> None:
        """Apply what waits, and ask Stripe where an event does not say enough."""
        engine = self.scratch.engine
        while claimed := inbox.claim(engine, "worker", 1000):
            applied = applying.apply_batch(engine, claimed)
            for failure in applied.failures:
                inbox.fail(engine, failure, dead=True)
            for asked in applied.asked:
                self._settle(asked)

    def _settle(self, asked: Asked) -> None:
        answers = {}
        more = [asked]
        while more:
            answers[more[0].question] = ask(get_settings(), more[0].question)
            more = applying.attempt(self.scratch.engine, [asked.event], answers).asked

    def ends(self) -> list[tuple[str, str | None]]:
        """State and reason of each event, in the order in which they came."""
        found = self.books.rows("SELECT state, reason FROM events WHERE provider = 'stripe' ORDER BY id")
        return [(row["state"], row["reason"]) for row in found]

    def states(self) -> set[str]:
        """The states that events are in."""
        return {state for state, _ in self.ends()}

    def payment(self, payment_id: str) -> Row:
        """What is known of a payment."""
        return self.books.rows("SELECT * FROM payments WHERE payment_id = :id", id=payment_id)[0]

    def own(self, kind: str, currency: str = "USD") -> int:
        """The balance of one of the reseller's accounts, in micros."""
        balance: int = self.books.value(
            "SELECT coalesce(sum(CASE WHEN to_account = own_account(:kind, :currency) THEN amount_micros ELSE"
            " -amount_micros END), 0)::bigint FROM transfers"
            " WHERE own_account(:kind, :currency) IN (from_account, to_account)",
            kind=kind,
            currency=currency,
        )
        return balance


def delivery(body: bytes) -> Delivery:
    """What the receiver stores."""
    return identify_stripe(body)


def report(name: str, **replaced: str) -> list[dict[str, Any]]:
    """The events of a report from the field, with our organization's id (`org_id`), or a customer, in its place."""
    events = content("stripe_reports", name)
    text = json.dumps(events)
    for event in events:
        found = event.get("data", {}).get("object", {})
        names = [found.get("metadata") or {}, _subscription(found)]
        for key in {"org_id", "customer"} & set(replaced):
            for place in [*names, found]:
                if place.get(key):
                    text = text.replace(place[key], replaced[key])
    replayed: list[dict[str, Any]] = json.loads(text)
    return replayed


def _subscription(found: dict[str, Any]) -> dict[str, Any]:
    details = (found.get("parent") or {}).get("subscription_details") or {}
    metadata: dict[str, Any] = details.get("metadata") or {}
    return metadata
