"""The debt limit, case by case as people of the earlier system know them."""

from uuid import uuid4

import pytest

from billing.errors import IdempotencyConflict, InvalidAmount, UnknownOrganization
from tests.books import Books


def test_deduct_within_limit_succeeds(shared: Books, tag: str) -> None:
    """A call may take a wallet into debt as far as the default limit of 5 dollars."""
    organization_id = shared.organization()
    shared.credit(organization_id, 1_000_000, f"topup:{tag}")

    answer = shared.deduct(organization_id, tag, 4_000_000)

    assert answer == {
        "success": True,
        "duplicate": False,
        "balance_before_micros": 1_000_000,
        "balance_after_micros": -3_000_000,
        "debt_limit_micros": 5_000_000,
        "remaining_debt_capacity_micros": 2_000_000,
        "needs_recharge": True,
        "reason": None,
    }


def test_deduct_beyond_limit_is_refused(shared: Books, tag: str) -> None:
    """A call that would lead 4 dollars past the limit moves nothing and says why."""
    organization_id = shared.organization()
    shared.deduct(organization_id, f"{tag}-1", 3_000_000)

    answer = shared.deduct(organization_id, f"{tag}-2", 6_000_000)

    assert answer == {
        "success": False,
        "duplicate": False,
        "balance_before_micros": -3_000_000,
        "balance_after_micros": -3_000_000,
        "debt_limit_micros": 5_000_000,
        "remaining_debt_capacity_micros": 2_000_000,
        "needs_recharge": True,
        "reason": "debt_limit_exceeded",
    }
    assert shared.balance(organization_id) == -3_000_000
    assert shared.wallet(organization_id)["outstanding_micros"] == 6_000_000


def test_deduct_exactly_to_limit_succeeds(shared: Books, tag: str) -> None:
    """The limit itself may be reached, which leaves no capacity."""
    organization_id = shared.organization()

    answer = shared.deduct(organization_id, tag, 5_000_000)

    assert (answer["success"], answer["balance_after_micros"]) == (True, -5_000_000)
    assert answer["remaining_debt_capacity_micros"] == 0


def test_deduct_one_micro_past_limit_is_refused(shared: Books, tag: str) -> None:
    """At the limit, the smallest amount there is does not fit."""
    organization_id = shared.organization()
    shared.deduct(organization_id, f"{tag}-1", 5_000_000)

    answer = shared.deduct(organization_id, f"{tag}-2", 1)

    assert (answer["success"], answer["reason"]) == (False, "debt_limit_exceeded")


def test_deduct_after_refusal_of_larger_succeeds(shared: Books, tag: str) -> None:
    """A refused call does not stand in the way of a smaller one that fits."""
    organization_id = shared.organization()
    shared.deduct(organization_id, f"{tag}-1", 6_000_000)

    answer = shared.deduct(organization_id, f"{tag}-2", 5_000_000)

    assert answer["success"]


def test_deduct_from_positive_balance_reports_whole_limit_as_capacity(shared: Books, tag: str) -> None:
    """Capacity is how far into debt usage may go, so credit does not add to it."""
    organization_id = shared.organization()
    shared.credit(organization_id, 9_000_000, f"topup:{tag}")

    assert shared.deduct(organization_id, tag, 1_000_000)["remaining_debt_capacity_micros"] == 5_000_000


def test_deduct_below_threshold_needs_recharge(shared: Books, tag: str) -> None:
    """needs_recharge turns true when the balance falls below the wallet's threshold, not at it."""
    organization_id = shared.organization()
    shared.value("SELECT set_recharge_threshold(:id, 1000000)", id=organization_id)
    shared.credit(organization_id, 3_000_000, f"topup:{tag}")

    at_threshold = shared.deduct(organization_id, f"{tag}-1", 2_000_000)
    below = shared.deduct(organization_id, f"{tag}-2", 1)

    assert (at_threshold["needs_recharge"], below["needs_recharge"]) == (False, True)


def test_deduct_of_own_limit_follows_it(shared: Books, tag: str) -> None:
    """An organization's own limit replaces the default; a limit of zero means prepaid only."""
    organization_id = shared.organization(debt_limit_micros=0)
    shared.credit(organization_id, 1_000_000, f"topup:{tag}")

    assert shared.deduct(organization_id, f"{tag}-1", 1_000_000)["success"]
    assert not shared.deduct(organization_id, f"{tag}-2", 1)["success"]


def test_deduct_of_nothing_is_free(shared: Books, tag: str) -> None:
    """A call that costs nothing is charged as free, without a transfer, even at the limit."""
    organization_id = shared.organization(debt_limit_micros=0)

    answer = shared.deduct(organization_id, tag, 0)

    assert answer["success"]
    assert shared.states(organization_id) == {f"call:{tag}": "free"}
    assert shared.transfers(organization_id) == []


@pytest.mark.parametrize("amount_micros", [4_000_000, 6_000_000])
def test_deduct_twice_answers_with_first_outcome(shared: Books, tag: str, amount_micros: int) -> None:
    """A duplicate gets the first answer, accepted or refused, although the balance is another by now."""
    organization_id = shared.organization()
    first = shared.deduct(organization_id, tag, amount_micros)
    shared.credit(organization_id, 20_000_000, f"topup:{tag}")
    balance_micros = shared.balance(organization_id)

    second = shared.deduct(organization_id, tag, amount_micros)

    assert second == {**first, "duplicate": True}
    assert shared.balance(organization_id) == balance_micros


def test_deduct_same_call_other_amount_conflicts(shared: Books, tag: str) -> None:
    """The same key with another amount is an error that carries both facts."""
    organization_id = shared.organization()
    shared.deduct(organization_id, tag, 1_000)

    with pytest.raises(IdempotencyConflict) as conflict:
        shared.deduct(organization_id, tag, 2_000)

    assert conflict.value.facts["amount_micros"] == 1_000
    assert conflict.value.facts["other_amount_micros"] == 2_000
    assert shared.balance(organization_id) == -1_000


def test_deduct_same_call_other_organization_conflicts(shared: Books, tag: str) -> None:
    """Nobody pays for another organization's call."""
    first, second = shared.organization(), shared.organization()
    shared.deduct(first, tag, 1_000)

    with pytest.raises(IdempotencyConflict):
        shared.deduct(second, tag, 1_000)

    assert shared.balance(second) == 0


def test_deduct_under_allow_overrun_is_booked_and_flagged(shared: Books, tag: str) -> None:
    """The policy allow_overrun books past the limit, and the transfer says so."""
    organization_id = shared.organization()
    shared.policy(organization_id, "allow_overrun")
    shared.deduct(organization_id, f"{tag}-1", 5_000_000)

    answer = shared.deduct(organization_id, f"{tag}-2", 7_000_000)

    assert (answer["success"], answer["balance_after_micros"]) == (True, -12_000_000)
    assert answer["remaining_debt_capacity_micros"] == 0
    assert [row["overrun"] for row in shared.transfers(organization_id)] == [False, True]


def test_deduct_unknown_organization_is_refused(shared: Books, tag: str) -> None:
    """There is no wallet to take from."""
    with pytest.raises(UnknownOrganization):
        shared.deduct(uuid4(), tag, 1)


@pytest.mark.parametrize(("call_id", "amount_micros"), [("", 1), ("x", -1)])
def test_deduct_of_senseless_facts_is_refused(shared: Books, call_id: str, amount_micros: int) -> None:
    """An empty call id or a negative amount is nobody's charge."""
    organization_id = shared.organization()

    with pytest.raises(InvalidAmount):
        shared.deduct(organization_id, call_id, amount_micros)
