"""Refunds and disputes: always booked, never more than was paid."""

from uuid import UUID

import pytest

from billing.errors import IdempotencyConflict, InvalidAmount, TakesBackTooMuch, UnknownPayment
from tests.books import Books


@pytest.fixture
def paid(shared: Books, tag: str) -> UUID:
    """An organization that paid 10 dollars with payment `tag`."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    return organization_id


def test_refund_takes_back_even_past_the_limit(shared: Books, tag: str, paid: UUID) -> None:
    """The money is gone, whatever the debt limit says."""
    shared.deduct(paid, tag, 15_000_000)

    answer = shared.take_back("refund_payment", tag, f"re-{tag}", 10_000_000)

    assert answer == {
        "duplicate": False,
        "balance_before_micros": -5_000_000,
        "balance_after_micros": -15_000_000,
    }
    assert shared.transfers(paid)[-1]["idempotency_key"] == f"refund:re-{tag}"


@pytest.mark.parametrize("function", ["refund_payment", "withdraw_dispute"])
def test_taking_back_twice_moves_once(shared: Books, tag: str, paid: UUID, function: str) -> None:
    """A duplicate answers with the first outcome."""
    first = shared.take_back(function, tag, f"x-{tag}", 4_000_000)
    shared.deduct(paid, tag, 1_000_000)

    assert shared.take_back(function, tag, f"x-{tag}", 4_000_000) == {**first, "duplicate": True}
    assert shared.balance(paid) == 5_000_000


def test_taking_back_other_amount_under_same_key_conflicts(shared: Books, tag: str, paid: UUID) -> None:
    """A refund has one amount."""
    shared.take_back("refund_payment", tag, f"re-{tag}", 1)

    with pytest.raises(IdempotencyConflict):
        shared.take_back("refund_payment", tag, f"re-{tag}", 2)


def test_taking_back_never_exceeds_the_payment(shared: Books, tag: str, paid: UUID) -> None:
    """Refunds and disputes share what was credited; one micro more is refused."""
    shared.take_back("refund_payment", tag, f"re-{tag}", 4_000_000)

    with pytest.raises(TakesBackTooMuch) as refusal:
        shared.take_back("withdraw_dispute", tag, f"dp-{tag}", 6_000_001)

    assert refusal.value.facts["left_micros"] == 6_000_000
    shared.take_back("withdraw_dispute", tag, f"dp-{tag}", 6_000_000)
    assert shared.balance(paid) == 0


def test_reinstated_dispute_gives_back_and_can_be_refunded(shared: Books, tag: str, paid: UUID) -> None:
    """A won dispute returns the money, settles what is owed, and may be refunded afterwards."""
    shared.take_back("withdraw_dispute", tag, f"dp-{tag}", 10_000_000)
    shared.deduct(paid, tag, 6_000_000)

    answer = shared.take_back("reinstate_dispute", f"dp-{tag}", 10_000_000)

    assert (answer["balance_before_micros"], answer["balance_after_micros"]) == (0, 10_000_000)
    assert shared.balance(paid) == 4_000_000
    shared.take_back("refund_payment", tag, f"re-{tag}", 10_000_000)
    assert shared.balance(paid) == -6_000_000


def test_reinstating_twice_moves_once(shared: Books, tag: str, paid: UUID) -> None:
    """A duplicate answers with the first outcome; another amount is a conflict."""
    shared.take_back("withdraw_dispute", tag, f"dp-{tag}", 5_000_000)
    first = shared.take_back("reinstate_dispute", f"dp-{tag}", 5_000_000)

    assert shared.take_back("reinstate_dispute", f"dp-{tag}", 5_000_000) == {**first, "duplicate": True}
    with pytest.raises(IdempotencyConflict):
        shared.take_back("reinstate_dispute", f"dp-{tag}", 4_000_000)


def test_failed_refund_comes_back_once(shared: Books, tag: str, paid: UUID) -> None:
    """And leaves as much of the payment as before it."""
    shared.take_back("refund_payment", tag, f"re-{tag}", 10_000_000)
    first = shared.take_back("return_refund", f"re-{tag}", 10_000_000)

    assert shared.take_back("return_refund", f"re-{tag}", 10_000_000) == {**first, "duplicate": True}
    assert shared.balance(paid) == 10_000_000
    shared.take_back("refund_payment", tag, f"re2-{tag}", 10_000_000)


def test_reinstating_more_than_withdrawn_is_refused(shared: Books, tag: str, paid: UUID) -> None:
    """A dispute gives back at most what it took."""
    shared.take_back("withdraw_dispute", tag, f"dp-{tag}", 5_000_000)

    with pytest.raises(TakesBackTooMuch):
        shared.take_back("reinstate_dispute", f"dp-{tag}", 5_000_001)


def test_taking_back_ahead_of_its_payment_may_pass(shared: Books, tag: str) -> None:
    """A refund that overtakes its payment is an error worth a retry."""
    with pytest.raises(UnknownPayment):
        shared.take_back("refund_payment", tag, f"re-{tag}", 1)
    with pytest.raises(UnknownPayment):
        shared.take_back("reinstate_dispute", f"dp-{tag}", 1)


@pytest.mark.parametrize("amount_micros", [0, -1, None])
def test_taking_back_of_senseless_amount_is_refused(
    shared: Books, tag: str, paid: UUID, amount_micros: int | None
) -> None:
    """Taking back is positive, in both directions."""
    shared.take_back("withdraw_dispute", tag, f"dp-{tag}", 1)

    with pytest.raises(InvalidAmount):
        shared.take_back("refund_payment", tag, f"re-{tag}", amount_micros)
    with pytest.raises(InvalidAmount):
        shared.take_back("reinstate_dispute", f"dp-{tag}", amount_micros)
