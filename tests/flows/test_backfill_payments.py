"""Payments whose webhook never arrived are found at Stripe and credited once; all over HTTP."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from billing.deliveries import Delivery
from billing.errors import BillingError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.process import NotConfigured
from billing.settings import get_settings
from billing.stripe_list import TooLongAgo, list_events, open_stripe
from calltally.sandbox.faults import Fault
from calltally.sandbox.stripe_objects import Payment
from flows.backfill_payments import backfill_payments
from flows.process_webhooks import process_webhooks

from .stage import Stage, run

YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


def pay_unheard(stage: Stage, count: int, at: datetime = YESTERDAY) -> None:
    """Payments of $5.00 whose webhooks get lost."""
    for _ in range(count):
        stage.sandbox.stripe.pay_topup(Payment(500, client_reference_id=str(stage.organization_id)), at=at)


def listed(start: datetime, end: datetime) -> list[Delivery]:
    """What Stripe answers."""

    async def ask() -> list[Delivery]:
        async with open_stripe(get_settings()) as client:
            return await list_events(client, start, end)

    return asyncio.run(ask())


def topups(stage: Stage) -> int:
    """How many payments are credited, the opening one aside."""
    found: int = stage.books.value("SELECT count(*) - 1 FROM transfers WHERE kind = 'topup'")
    return found


def test_lost_payments_are_credited_once_and_known_ones_are_left_alone(stage: Stage) -> None:
    """Both events of a payment are missing, or one, or none; a second run finds nothing."""
    stage.pay(700)
    pay_unheard(stage, 3)
    run(process_webhooks)
    before = topups(stage)
    first = run(backfill_payments)
    run(process_webhooks)
    second = run(backfill_payments)

    assert before == 1
    assert first.result == {"listed": 8, "missed": 6}
    assert second.result == {"listed": 8, "missed": 0}
    assert first.name.startswith("recover 6 of 8 payment events since ")
    assert topups(stage) == 4
    assert stage.states() == {"done": 8}
    assert stage.books.value("SELECT max(deliveries) FROM events") == 1
    assert stage.books.broken() == []


def test_lost_refunds_and_disputes_are_listed_beside_payments(stage: Stage) -> None:
    """All that tell of money, those too that repeat it."""
    stripe = stage.sandbox.stripe
    topup = stripe.pay_topup(Payment(500, client_reference_id=str(stage.organization_id)), at=YESTERDAY)
    stripe.refund(topup, 100, at=YESTERDAY, outcome="fails")
    stripe.dispute(topup, 500, at=YESTERDAY, reinstated_minor=500)

    found = listed(YESTERDAY, YESTERDAY + timedelta(seconds=1))

    assert sorted(event.type for event in found) == [
        "charge.dispute.closed",
        "charge.dispute.created",
        "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn",
        "charge.refunded",
        "checkout.session.completed",
        "payment_intent.succeeded",
        "refund.created",
        "refund.failed",
        "refund.updated",
    ]


@pytest.mark.slow
def test_rehearsal_says_what_is_missing_and_stores_nothing(stage: Stage) -> None:
    """Its name says `would`."""
    pay_unheard(stage, 2)
    rehearsed = run(backfill_payments, dry_run=True)

    assert rehearsed.result == {"listed": 4, "missed": 4}
    assert rehearsed.name.startswith("would recover 4 of 4")
    assert stage.states() == {}


def test_window_is_half_open_and_pages_are_followed_through_one_second(stage: Stage) -> None:
    """Far more events in one second than fit a page, and others just outside the window."""
    pay_unheard(stage, 130)
    pay_unheard(stage, 1, at=YESTERDAY - timedelta(seconds=1))
    pay_unheard(stage, 1, at=YESTERDAY + timedelta(seconds=1))
    found = listed(YESTERDAY, YESTERDAY + timedelta(seconds=1))
    broken_bounds = listed(YESTERDAY - timedelta(milliseconds=1), YESTERDAY + timedelta(milliseconds=1))

    assert len(found) == len({event.key for event in found}) == 260
    assert {event.key for event in broken_bounds} == {event.key for event in found}
    assert len([asked for asked in stage.sandbox.stripe.faults.requests if "created" in asked]) == 6


def test_events_without_effect_are_not_asked_for(stage: Stage) -> None:
    """A customer or an invoice is nobody's business here."""
    stage.sandbox.stripe.emit("customer.created", {"id": "cus_1", "object": "customer"}, at=YESTERDAY)

    assert listed(YESTERDAY - timedelta(hours=1), YESTERDAY + timedelta(hours=1)) == []


def test_time_that_stripe_has_forgotten_is_refused(stage: Stage) -> None:
    """Silence about the days before would be taken for completeness."""
    refused = run(backfill_payments, window_from=datetime.now(UTC) - timedelta(days=31))

    assert isinstance(refused.result, TooLongAgo)
    assert "30 days" in str(refused.result)
    assert "wallet credit" in str(refused.result)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((400, ProviderRefused), (401, ProviderRefused), (403, ProviderRefused)),
        *((429, RateLimited), (500, ProviderUnavailable), (503, ProviderUnavailable)),
    ],
)
def test_refusals_say_what_to_do(stage: Stage, status: int, error: type[BillingError]) -> None:
    """What may pass is transient; a wrong key is not."""
    stage.sandbox.stripe.faults.add(Fault(status=status))

    with pytest.raises(error, match="Stripe"):
        listed(YESTERDAY, YESTERDAY + timedelta(hours=1))


def test_answer_that_is_no_list_is_worth_another_try(stage: Stage) -> None:
    """As from a proxy on the way."""
    stage.sandbox.stripe.faults.add(Fault(status=200))

    with pytest.raises(ProviderUnavailable, match="no list"):
        listed(YESTERDAY, YESTERDAY + timedelta(hours=1))


def test_list_that_shows_a_page_again_ends_with_an_error(stage: Stage) -> None:
    """Else it would be read for ever."""
    page = [{"id": f"evt_{number}", "type": "payment_intent.succeeded", "created": 1} for number in range(3)]
    body = json.dumps({"object": "list", "data": page, "has_more": True}).encode()
    stage.sandbox.stripe.faults.add(Fault(status=200, body=body), times=3)

    with pytest.raises(ProviderUnavailable, match="shows a page again"):
        listed(YESTERDAY, YESTERDAY + timedelta(hours=1))
    assert len(stage.sandbox.stripe.faults.requests) == 2


def test_undelivered_webhooks_are_told_and_so_is_their_return(stage: Stage) -> None:
    """Those of the last minutes may be on their way; a look at the past, or a rehearsal, says nothing of today."""
    pay_unheard(stage, 1, at=datetime.now(UTC) - timedelta(minutes=2))
    run(backfill_payments, look_back_hours=3)
    pay_unheard(stage, 1, at=datetime.now(UTC) - timedelta(minutes=30))
    run(backfill_payments, look_back_hours=3, dry_run=True)
    quiet = len(stage.sandbox.slack.messages)
    run(backfill_payments, look_back_hours=3)
    told = [message["text"] for message in stage.sandbox.slack.messages[quiet:]]
    run(backfill_payments, look_back_hours=3)

    assert quiet == 0
    assert len(told) == 1
    assert "2 events of Stripe since" in told[0]
    assert "Stripe's webhooks arrive again" in stage.sandbox.slack.messages[-1]["text"]


def test_regular_run_without_a_key_says_that_nobody_was_asked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes no money through Stripe is not told so every hour; who asks by hand for a time is."""
    monkeypatch.delenv("STRIPE_API_KEY")
    get_settings.cache_clear()

    assert run(backfill_payments).name == "nobody was asked: STRIPE_API_KEY is not set"
    assert isinstance(run(backfill_payments, window_from=YESTERDAY).result, NotConfigured)


def test_missing_key_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the key must be able to do."""
    monkeypatch.delenv("STRIPE_API_KEY")
    get_settings.cache_clear()

    with pytest.raises(NotConfigured, match=r"STRIPE_API_KEY.*read events"):
        listed(YESTERDAY, YESTERDAY + timedelta(hours=1))
