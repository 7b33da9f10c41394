"""What the tests of the inbox have in common: deliveries as providers send them, and a worker without Prefect."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from billing import applying, inbox
from billing.database import transaction
from billing.deliveries import Delivery, identify_stripe, identify_vapi
from billing.errors import BillingError, TransientError
from billing.inbox import ClaimedEvent, Failure
from tests.books import Books, Row
from tests.databases import Scratch

UNLUCKY = """
CREATE FUNCTION refuse_unlucky() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this call is unlucky' USING ERRCODE = '40P01';
END $$;
CREATE TRIGGER unlucky BEFORE INSERT ON calls FOR EACH ROW WHEN (starts_with(new.id, 'unlucky'))
EXECUTE FUNCTION refuse_unlucky();
"""
"""Calls of such a name fail for ever, with an error that could pass."""


@dataclass(frozen=True)
class Story:
    """An inbox on its way into the books."""

    scratch: Scratch

    @property
    def url(self) -> str:
        """The database's address."""
        return self.scratch.url

    @property
    def books(self) -> Books:
        """The books as the application has them."""
        return self.scratch.books

    @property
    def owner(self) -> Books:
        """The same as the superuser."""
        return self.scratch.owner

    @property
    def engine(self) -> Engine:
        """The application's connections."""
        return self.scratch.engine

    def from_the_start(self) -> "Story":
        """The same with nothing having happened yet."""
        self.scratch.empty()
        return self

    def open_wallet(self, name: str = "Acme", micros: int = 100_000_000, debt_limit_micros: int = 5_000_000) -> UUID:
        """An organization with money, and with the assistant of the same name."""
        organization_id = self.books.organization(name, debt_limit_micros)
        self.books.credit(organization_id, micros, f"topup:pi_opening_{name}")
        self.books.route(organization_id, name)
        return organization_id

    def accept(self, *deliveries: Delivery) -> list[int]:
        """Store deliveries; the ids of their events, in the order given."""
        inbox.accept(self.engine, deliveries)
        return [self.event(delivery)["id"] for delivery in deliveries]

    def event(self, delivery: Delivery) -> Row:
        """The event of a delivery."""
        return self.books.rows(
            "SELECT * FROM events WHERE provider = :provider AND delivery_key = :key",
            provider=delivery.provider,
            key=delivery.key,
        )[0]

    def tamper(self, statement: str, **parameters: Any) -> None:
        """Change rows as the superuser, who can do what no function would."""
        with transaction(self.owner.engine) as connection:
            connection.execute(text(statement), parameters)

    def states(self) -> dict[str, str]:
        """The state of each event by its delivery key."""
        found = self.books.rows("SELECT delivery_key, state FROM events ORDER BY id")
        return {row["delivery_key"]: row["state"] for row in found}

    def lose_leases(self) -> None:
        """Let all leases have ended, as if their workers were long gone."""
        self.tamper("UPDATE events SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")

    def age(self, days: int) -> None:
        """Let everything have come, and what has ended have ended, so many days earlier."""
        self.tamper(
            "UPDATE events SET finished_at = finished_at - make_interval(days => :days),"
            " received_at = received_at - make_interval(days => :days)",
            days=days,
        )
        self.tamper("UPDATE event_bodies SET received_at = received_at - make_interval(days => :days)", days=days)

    def bodies(self) -> int:
        """How many bodies are kept."""
        return int(self.books.value("SELECT count(*) FROM event_bodies"))

    def content(self) -> dict[str, list[Row]]:
        """All that money and events come to, without the ids and times that differ from run to run."""
        return {
            "wallets": self.books.rows(
                "SELECT name, balance_micros, owed.micros FROM wallet_balances JOIN organizations"
                " ON organizations.id = organization_id CROSS JOIN LATERAL (SELECT sum(amount_micros) AS micros"
                " FROM charges WHERE charges.organization_id = organizations.id AND state = 'outstanding') AS owed"
                " ORDER BY name"
            ),
            "transfers": self.books.rows(
                "SELECT idempotency_key, kind, amount_micros FROM transfers ORDER BY idempotency_key"
            ),
            "charges": self.books.rows(
                "SELECT idempotency_key, state, amount_micros FROM charges ORDER BY idempotency_key"
            ),
            "events": self.books.rows("SELECT delivery_key, state, reason FROM events ORDER BY delivery_key"),
        }


def work(engine: Engine) -> None:
    """Apply everything that waits, as the flow does, with one retry for what may pass."""
    while claimed := inbox.claim(engine, "worker", 100):
        for failure in applying.apply_batch(engine, claimed).failures:
            may_pass = isinstance(failure.error, TransientError)
            inbox.fail(engine, failure, dead=not may_pass)
            if may_pass:
                _retry(engine, failure.event)


def _retry(engine: Engine, event: ClaimedEvent) -> None:
    try:
        applying.apply(engine, [event])
    except BillingError as error:
        if error.affects_everything:
            raise
        inbox.fail(engine, Failure(event, error), dead=True)


def report(call_id: str, assistant: str = "Acme", seconds: int = 60) -> Delivery:
    """The end-of-call report of a call; the customer's number is in it."""
    ended = f"2026-07-01T00:{5 + seconds // 60:02}:{seconds % 60:02}Z"
    message: dict[str, Any] = {
        "type": "end-of-call-report",
        "startedAt": "2026-07-01T00:05:00Z",
        "endedAt": ended,
        "cost": 0.05,
        "call": {"id": call_id, "createdAt": "2026-07-01T00:04:00Z", "assistantId": assistant},
        "customer": {"number": "+14155550123"},
    }
    return identify_vapi(json.dumps({"message": message}).encode())


def status_update(call_id: str) -> Delivery:
    """A message that is skipped."""
    return identify_vapi(
        json.dumps({"message": {"type": "status-update", "status": "ended", "call": {"id": call_id}}}).encode()
    )


def unreadable(call_id: str) -> Delivery:
    """A report that says nothing of its call but the id, and the customer's number."""
    message = {"type": "end-of-call-report", "call": {"id": call_id}, "customer": {"number": "+14155550123"}}
    return identify_vapi(json.dumps({"message": message}).encode())


def payment(payment_id: str, organization_id: UUID | str, amount_minor: int = 5_000) -> list[Delivery]:
    """Both events of one payment: the finished Checkout Session and the PaymentIntent."""
    session = {
        "id": f"cs_{payment_id}",
        "payment_status": "paid",
        "payment_intent": payment_id,
        "amount_total": amount_minor,
        "currency": "usd",
        "client_reference_id": str(organization_id),
    }
    intent = {
        "id": payment_id,
        "amount_received": amount_minor,
        "currency": "usd",
        "metadata": {"org_id": str(organization_id)},
    }
    kinds = {"checkout.session.completed": session, "payment_intent.succeeded": intent}
    return [
        identify_stripe(
            json.dumps(
                {
                    "id": f"evt_{payment_id}_{place}",
                    "type": kind,
                    "created": 1_780_000_000,
                    "livemode": False,
                    "data": {"object": content},
                }
            ).encode()
        )
        for place, (kind, content) in enumerate(kinds.items())
    ]
