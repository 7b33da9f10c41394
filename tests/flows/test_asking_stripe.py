"""Events that do not say enough, as the worker applies them: Stripe is asked over HTTP, by tasks that are retried."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing import applying, inbox
from billing.replay import rehearse
from calltally.sandbox.faults import Fault
from calltally.sandbox.stripe import Event
from calltally.sandbox.stripe_objects import Payment
from flows import process_webhooks as module
from flows.process_webhooks import process_webhooks
from tasks import questions
from tasks.inbox import lease_renewed

from .stage import Stage, as_owner, run

AT = datetime(2026, 11, 30, tzinfo=UTC)
OPENING = 100_000_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No twin is waited for, and retries come at once."""
    monkeypatch.setattr(module, "TWIN_PATIENCE", timedelta(0))
    monkeypatch.setattr(questions.ask_stripe, "retry_delay_seconds", [0, 0, 0])


def paid(stage: Stage, **fields: Any) -> tuple[str, list[Event]]:
    """A payment of 60.00 with 10.00 of tax, and its two events; none is told yet."""
    names = {"org_id": str(stage.organization_id), "purpose": "checkout_topup"}
    topup = stage.sandbox.stripe.pay_topup(Payment(6_000, metadata=names, tax_minor=1_000, **fields), at=AT)
    return topup.payment_intent_id, list(topup.events)


def credited(stage: Stage) -> int:
    """What came beside the money of the beginning."""
    return stage.books.balance(stage.organization_id) - OPENING


def ends(stage: Stage) -> list[tuple[str, str | None]]:
    """State and reason of Stripe's events."""
    found = stage.books.rows("SELECT state, reason FROM events WHERE provider = 'stripe' ORDER BY id")
    return [(row["state"], row["reason"]) for row in found]


def test_payment_alone_is_credited_with_what_its_session_says(stage: Stage) -> None:
    """One request; its Session's event, when it comes, is a duplicate."""
    payment_id, (session, payment) = paid(stage)
    stripe = stage.sandbox.stripe
    stage.receive("stripe", stripe.messages([payment]))
    first = run(process_webhooks)
    stage.receive("stripe", stripe.messages([session]))
    run(process_webhooks)

    assert first.state.message == "1 done"
    assert credited(stage) == 50_000_000
    assert ends(stage) == [("done", None)] * 2
    assert stripe.asked == [f"/v1/checkout/sessions?payment_intent={payment_id}&limit=1"]
    assert stage.books.broken() == []


def test_session_that_is_told_meanwhile_is_not_asked_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payment waits for its twin, which another run applies."""
    _, (session, payment) = paid(stage)
    stage.receive("stripe", stage.sandbox.stripe.messages([payment]))
    told = stage.sandbox.stripe.messages([session])

    def in_the_meantime(claimed: Any) -> Any:
        stage.receive("stripe", told)
        applying.apply(stage.engine, inbox.claim(stage.engine, "another", 10))
        return lease_renewed(claimed)

    monkeypatch.setattr(module, "lease_renewed", in_the_meantime)
    run(process_webhooks)

    assert credited(stage) == 50_000_000
    assert stage.sandbox.stripe.asked == []


def test_thin_event_is_credited_as_its_snapshot(stage: Stage) -> None:
    """The payment is asked for, then its Session."""
    payment_id, (_, payment) = paid(stage)
    stage.receive("stripe", stage.sandbox.stripe.thin_messages([payment]))

    run(process_webhooks)

    assert credited(stage) == 50_000_000
    assert [path.partition("?")[0] for path in stage.sandbox.stripe.asked] == [
        f"/v1/payment_intents/{payment_id}",
        "/v1/checkout/sessions",
    ]


def test_stripe_that_fails_is_asked_again(stage: Stage) -> None:
    """Three times more; each attempt is on record."""
    _, (_, payment) = paid(stage)
    stage.sandbox.stripe.faults.add(Fault(status=503), 3)
    stage.receive("stripe", stage.sandbox.stripe.messages([payment]))

    run(process_webhooks)

    assert credited(stage) == 50_000_000
    assert stage.books.value("SELECT count(*) FROM event_attempts") == 3


def test_stripe_that_is_away_delays_an_event_and_its_twin_says_all(stage: Stage) -> None:
    """Nothing is dead: the event comes back later, and finds its payment credited."""
    _, (session, payment) = paid(stage)
    stage.sandbox.stripe.faults.add(Fault(status=503), 4)
    stage.receive("stripe", stage.sandbox.stripe.messages([payment]))
    first = run(process_webhooks)
    delayed = ends(stage)[0][0]
    left = stage.books.value("SELECT lease_until - now() > '8 minutes' FROM events")
    stage.receive("stripe", stage.sandbox.stripe.messages([session]))
    run(process_webhooks)
    as_owner(stage.engine, "UPDATE events SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")
    run(process_webhooks)

    assert first.state.message == "1 to be asked about again"
    assert (delayed, left) == ("delayed", True)
    assert ends(stage) == [("done", None)] * 2
    assert credited(stage) == 50_000_000


def test_refused_key_parks_an_event_until_its_twin_comes(stage: Stage) -> None:
    """With the reason, which the run's name and table show."""
    payment_id, (session, payment) = paid(stage)
    stage.sandbox.stripe.faults.add(Fault(status=403), 1)
    stage.receive("stripe", stage.sandbox.stripe.messages([payment]))
    run(process_webhooks)
    parked = ends(stage)
    stage.receive("stripe", stage.sandbox.stripe.messages([session]))
    run(process_webhooks)
    run(process_webhooks)

    assert parked == [("parked", f"cannot_ask_stripe:{payment_id}")]
    assert ends(stage) == [("done", None)] * 2
    assert credited(stage) == 50_000_000


def test_rehearsed_replay_asks_nobody(stage: Stage) -> None:
    """What would have to be asked stays parked there, and nothing is credited unasked."""
    payment_id, (_, payment) = paid(stage)
    stage.sandbox.stripe.faults.add(Fault(status=403), 1)
    stage.receive("stripe", stage.sandbox.stripe.messages([payment]))
    run(process_webhooks)
    ids = [row["id"] for row in stage.books.rows("SELECT id FROM events")]

    plan = rehearse(stage.engine, ids)

    assert plan.outcomes == [{"id": ids[0], "state": "parked", "reason": f"cannot_ask_stripe:{payment_id}"}]
    assert stage.sandbox.stripe.asked == []
