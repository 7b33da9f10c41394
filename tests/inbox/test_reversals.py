"""Refunds and disputes from Stripe's events into the books: every order and repetition ends in the same books."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from billing import applying, inbox
from billing.deliveries import Delivery, identify_stripe
from billing.event_life import event_life
from calltally.sandbox.stripe import Event, StripeWorld
from calltally.sandbox.stripe_objects import Payment

from .story import Story, work

AT = datetime(2026, 7, 1, tzinfo=UTC)


def deliveries(world: StripeWorld, events: Iterable[Event]) -> list[Delivery]:
    """What the receiver stores of the events."""
    return [identify_stripe(message.body) for message in world.messages(events)]


def paid(world: StripeWorld, organization_id: object, amount_minor: int = 5_000) -> tuple[list[Delivery], str]:
    """Both events of a payment, and its id."""
    topup = world.pay_topup(Payment(amount_minor, metadata={"org_id": str(organization_id)}), at=AT)
    return deliveries(world, topup.events), topup.payment_intent_id


def reasons(story: Story) -> set[tuple[str, str | None]]:
    """State and reason of all events."""
    return {(row["state"], row["reason"]) for row in story.content()["events"]}


def test_refund_ahead_of_its_payment_goes_on_by_itself(story: Story) -> None:
    """It is parked with the payment that it waits for, until that is credited."""
    world, organization_id = StripeWorld(), story.books.organization("Acme")
    payment, payment_id = paid(world, organization_id)
    refund = deliveries(world, world.refund(world.topup(payment_id), 2_000, at=AT))
    story.accept(*refund)
    work(story.engine)
    ahead = reasons(story)
    story.accept(*payment)
    work(story.engine)

    assert ahead == {
        ("parked", f"payment_not_credited:{payment_id}"),
    }
    assert story.event(refund[0])["state"] == "done"
    assert story.books.balance(organization_id) == 30_000_000
    assert story.books.broken() == []


def test_refund_and_its_payment_in_one_batch_are_both_done(story: Story) -> None:
    """Whichever stands first."""
    world, organization_id = StripeWorld(), story.books.organization("Acme")
    payment, payment_id = paid(world, organization_id)
    story.accept(*deliveries(world, world.refund(world.topup(payment_id), 5_000, at=AT)), *payment)
    (claimed,) = [inbox.claim(story.engine, "w", 100)]

    assert applying.apply(story.engine, claimed) == {"done": 4}
    assert story.books.balance(organization_id) == 0


def test_refund_takes_a_wallet_past_its_limit(story: Story) -> None:
    """The money is gone; the credit had been spent."""
    world, organization_id = StripeWorld(), story.books.organization("Acme", debt_limit_micros=0)
    payment, payment_id = paid(world, organization_id)
    story.accept(*payment)
    work(story.engine)
    story.books.deduct(organization_id, "call", 50_000_000)
    story.accept(*deliveries(world, world.refund(world.topup(payment_id), 5_000, at=AT)))
    work(story.engine)

    assert story.books.balance(organization_id) == -50_000_000
    assert story.books.broken() == []


def test_life_of_a_refund_event_shows_what_was_booked(story: Story) -> None:
    """`calltally events show` finds both steps by their keys."""
    world, organization_id = StripeWorld(), story.books.organization("Acme")
    payment, payment_id = paid(world, organization_id)
    refund = deliveries(world, world.refund(world.topup(payment_id), 5_000, at=AT, outcome="fails"))
    ids = story.accept(*payment, *refund)
    work(story.engine)

    booked = event_life(story.engine, ids[-1], None)["transfers"]
    assert [row["kind"] for row in booked] == ["refund", "reinstatement"]


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_refunds_and_disputes_ends_in_the_same_books(story: Story, seed: int) -> None:
    """Payments, refunds that succeed now, later, not at all or fail, disputes won and lost; a third comes twice."""
    chance = random.Random(seed)
    world, organization_id = StripeWorld(seed=1), story.books.organization("Acme")
    told: list[Delivery] = []
    for outcome in ("at_once", "later", "fails", "never"):
        payment, payment_id = paid(world, organization_id)
        topup = world.topup(payment_id)
        told += payment + deliveries(world, world.refund(topup, 2_000, at=AT, outcome=outcome))
        told += deliveries(world, world.refund(topup, 1_000, at=AT))
    for reinstated in (None, 5_000, 3_000):
        payment, payment_id = paid(world, organization_id)
        disputed = world.dispute(world.topup(payment_id), 5_000, at=AT, reinstated_minor=reinstated)
        told += payment + deliveries(world, disputed)
    told += chance.sample(told, len(told) // 3)
    chance.shuffle(told)
    while told:
        batch = [told.pop() for _ in range(min(len(told), chance.randint(1, 9)))]
        inbox.accept(story.engine, batch)
        work(story.engine)

    # 7 payments of $50; $20 stay refunded twice, $10 four times; $50 and $20 stay with the banks.
    assert story.books.balance(organization_id) == 350_000_000 - 2 * 20_000_000 - 4 * 10_000_000 - 70_000_000
    assert {state for state, _ in reasons(story)} == {"done", "skipped"}
    assert story.books.value("SELECT count(*) FROM transfers") == 7 + 3 + 1 + 4 + 3 + 2
    assert story.books.broken() == []
