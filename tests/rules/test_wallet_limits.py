"""Wallets at their debt limit."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from billing.books import open_books
from billing.metrics import DATABASE_GAUGES
from billing.rules.wallet_limits import RULE
from billing.status import Limits, read_status
from tests.books import Books, told_call

from .looking import NOW, all_clear, looked, written


def spend(books: Books, name: str, micros: int, limit_micros: int = 5_000_000) -> UUID:
    """An organization that made a call yesterday and has spent so much."""
    organization_id = books.organization(name, limit_micros)
    books.route(organization_id, name)
    books.record(told_call(name, name, None, NOW - timedelta(days=1)))
    books.deduct(organization_id, f"spent by {name}", micros)
    return organization_id


@pytest.mark.parametrize(
    ("micros", "failing"), [(0, False), (3_999_999, False), (4_000_000, True), (5_000_000, True)]
)
def test_wallet_that_has_used_four_fifths_of_its_limit_is_found(books: Books, micros: int, failing: bool) -> None:
    """At the limit its calls are only owed."""
    spend(books, "Acme", micros)
    condition = looked(books, RULE)["wallet_limits"]

    assert condition.failing is failing
    if failing:
        assert "1 wallet is at the debt limit or near it" in written(condition)
        assert "Acme: -$" in written(condition)
    else:
        assert all_clear(condition) == "No wallet is near its debt limit any more, or below its recharge threshold"


def test_first_ten_are_named_those_past_the_limit_first(books: Books, owner: Books) -> None:
    """A refund took one past it; of another a charge was refused, which is counted beside those that only may be."""
    owing = spend(books, "Near 00", 4_500_000)
    books.deduct(owing, "refused", 600_000)
    for n in range(1, 12):
        spend(books, f"Near {n:02}", 4_500_000)
    past = spend(books, "Past", 0)
    books.credit(past, 10_000_000, "topup:pi_1")
    books.deduct(past, "spent", 14_000_000)
    books.refund("pi_1", "re_1", 5_000_000)
    facts = looked(books, RULE)["wallet_limits"].facts

    assert (facts["wallets"], facts["past"], facts["owing"], len(facts["first"])) == (13, 1, 1, 10)
    assert facts["first"][0] == {
        "name": "Past", "currency": "USD", "balance_micros": -9_000_000, "debt_limit_micros": 5_000_000,
        "outstanding_micros": 0,
    }  # fmt: skip
    assert "and 3 more" in written(looked(books, RULE)["wallet_limits"])
    assert "Past the limit*\\n1" in written(looked(books, RULE)["wallet_limits"])
    assert "With refused charges*\\n1" in written(looked(books, RULE)["wallet_limits"])


@pytest.mark.parametrize(
    ("limit_micros", "threshold_micros", "left_micros", "failing"),
    [
        pytest.param(0, 3_000_000, 2_999_999, True, id="prepaid and below"),
        pytest.param(0, 3_000_000, 3_000_000, False, id="prepaid and not below"),
        pytest.param(0, 0, 1, False, id="prepaid without a threshold"),
        pytest.param(5_000_000, 3_000_000, 2_999_999, True, id="with a credit line as well"),
    ],
)
def test_wallet_is_found_below_its_recharge_threshold(
    books: Books, limit_micros: int, threshold_micros: int, left_micros: int, failing: bool
) -> None:
    """Before it runs out, as long as it makes calls, and whatever credit line it has."""
    organization_id = spend(books, "Acme", 0, limit_micros)
    books.value("SELECT set_recharge_threshold(:id, :micros)", id=organization_id, micros=threshold_micros)
    books.credit(organization_id, left_micros, "topup:pi_1")
    condition = looked(books, RULE)["wallet_limits"]
    later = looked(books, RULE, NOW + timedelta(days=8))["wallet_limits"]

    assert (condition.failing, later.failing) == (failing, False)
    assert not failing or "Acme: $2.999999, limit" in written(condition)


def test_customer_who_left_is_no_alarm_for_ever(books: Books) -> None:
    """Without calls for a week, and within the limit; a wallet without any credit line only counts once it owes."""
    spend(books, "Acme", 5_000_000)
    spend(books, "Prepaid", 0, limit_micros=0)
    later = looked(books, RULE, NOW + timedelta(days=8))["wallet_limits"]

    assert looked(books, RULE)["wallet_limits"].facts["wallets"] == 1
    assert later.failing is False


@pytest.mark.parametrize("limit_micros", [0, 5_000_000], ids=["prepaid", "with a credit line"])
def test_wallet_whose_charges_are_refused_is_found_as_everywhere_else(
    books: Books, database_url: str, limit_micros: int
) -> None:
    """Far from its limit or without one: a large call was refused, is owed, and the next ones may be as well."""
    owing = spend(books, "Owing", 0, limit_micros)
    spend(books, "Well", 0, limit_micros)
    for number in range(2):
        books.deduct(owing, f"large-{number}", 6_000_000)
    condition = looked(books, RULE, NOW + timedelta(days=8))["wallet_limits"]
    [gauge] = [gauge for gauge in DATABASE_GAUGES if gauge.name == "calltally_wallets"]
    with open_books(database_url) as screen:
        shown = read_status(screen, Limits(timedelta(minutes=5), Decimal("0.95")))["money"].facts["near_limit"]

    assert (condition.failing, condition.facts["owing"], condition.facts["past"]) == (True, 1, 0)
    assert "Owing: $0.00, limit" in written(condition)
    assert "$12.00 refused and owed" in written(condition)
    assert [row["name"] for row in shown] == ["Owing"]
    assert {row["state"]: row["value"] for row in books.rows(gauge.query) if row["value"]} == {
        "at_limit": 1, "well": 1,
    }  # fmt: skip
