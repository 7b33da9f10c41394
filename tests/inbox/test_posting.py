"""What a batch of unlike events comes to, and in which order it takes its locks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from billing import applying, inbox
from billing.database import transaction
from billing.deliveries import identify_stripe
from billing.errors import DatabaseUnavailable
from billing.inbox import ClaimedEvent
from billing.payments import CreditPayment
from billing.posting import DONE, Outcome, post
from calltally.sandbox.stripe import StripeWorld
from calltally.sandbox.stripe_objects import Payment

from .stops import die, stopping
from .story import Story, payment, report

NEVER = 10**9


def test_payments_are_locked_before_the_wallets_of_calls(story: Story) -> None:
    """Another worker with the same payment may wait for that wallet, holding the payment."""
    story.accept(report("call-1"), *payment("pi_1", story.open_wallet()))
    claimed = inbox.claim(story.engine, "worker", 100)

    with stopping(story.engine, NEVER, die) as moments:
        applying.apply(story.engine, claimed)

    functions = ("lock_payments", "record_calls", "credit_payments")
    asked = [name for moment in moments.seen for name in functions if moment.startswith("before") and name in moment]
    assert asked == ["lock_payments", "record_calls", "credit_payments"]


def apply_impatiently(story: Story, claimed: Sequence[ClaimedEvent]) -> None:
    """Give up where somebody has to be waited for."""
    with transaction(story.engine) as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        applying.apply_within(connection, claimed)


def test_batch_that_waits_for_the_payment_of_a_refund_holds_no_wallet(story: Story) -> None:
    """Whoever has the payment may need that wallet; it is the payment that is asked for first."""
    story.open_wallet()
    world = StripeWorld()
    topup = world.pay_topup(Payment(5_000), at=datetime(2026, 7, 1, tzinfo=UTC))
    refund = world.messages(world.refund(topup, 2_000, at=datetime(2026, 7, 1, tzinfo=UTC)))
    story.accept(report("call-1"), *(identify_stripe(message.body) for message in refund))
    claimed = inbox.claim(story.engine, "worker", 100)
    with story.owner.engine.begin() as other, stopping(story.engine, NEVER, die) as moments:
        other.exec_driver_sql("SELECT lock_payments(%s)", ([topup.payment_intent_id],))
        with pytest.raises(DatabaseUnavailable):
            apply_impatiently(story, claimed)

    assert any("lock_payments" in moment for moment in moments.seen)
    assert not any("record_calls" in moment for moment in moments.seen)


@pytest.mark.parametrize("together", [True, False])
def test_event_that_contradicts_its_payment_is_parked(story: Story, together: bool) -> None:
    """In one batch with the event that was credited, as after it; one that says the same is done with it."""
    organization_id = story.books.organization("Acme")

    def paid(reference: str | None, amount_micros: int = 5_000_000) -> CreditPayment:
        return CreditPayment("pi_1", reference, None, datetime(2026, 7, 1, tzinfo=UTC), amount_micros, "USD")

    told = {2: paid(None), 3: paid(None, 6_000_000), 1: paid(str(organization_id))}
    batches: list[Mapping[int, CreditPayment]] = [told] if together else [{n: told[n]} for n in sorted(told)]
    outcomes: dict[int, Outcome] = {}
    for batch in batches:
        with transaction(story.engine) as connection:
            outcomes |= post(connection, batch)

    assert outcomes == {1: DONE, 2: DONE, 3: Outcome("parked", "unknown_organization:pi_1")}
    assert story.books.balance(organization_id) == 5_000_000


@pytest.mark.parametrize("together", [True, False])
def test_payment_that_names_two_organizations_waits_for_its_credit(story: Story, together: bool) -> None:
    """Neither of them gets it by that event; once its other event, which names one, is credited, it is done."""
    first, second = story.books.organization("Acme"), story.books.organization("Beta")
    at = datetime(2026, 7, 1, tzinfo=UTC)
    both = CreditPayment("pi_1", str(first), None, at, 5_000_000, "USD", obstacle="customer_mismatch")
    told = {1: both, 2: CreditPayment("pi_1", str(second), None, at, 5_000_000, "USD")}
    batches: list[Mapping[int, CreditPayment]] = [told] if together else [{1: both}, told]
    outcomes: list[Mapping[int, Outcome]] = []
    for batch in batches:
        with transaction(story.engine) as connection:
            outcomes.append(post(connection, batch))

    assert outcomes[-1] == {1: DONE, 2: DONE}
    assert together or outcomes[0] == {1: Outcome("parked", "customer_mismatch:pi_1")}
    assert [story.books.balance(organization_id) for organization_id in (first, second)] == [0, 5_000_000]
