"""Refunds and disputes that took more than was paid."""

from datetime import UTC, datetime, timedelta

from billing.messages import MAX_REFERENCES
from billing.rules.beyond_payments import RULE
from tests.books import Books, moved

from .looking import all_clear, looked, written


def test_excess_is_told_and_ends_when_it_comes_back(books: Books) -> None:
    """The wallet gave what it had of the payment; the rest is the reseller's."""
    books.credit(books.organization("Acme"), 100_000_000, "topup:pi_1")
    books.tell(moved("pi_1", "txn_1", -100_000_000, "dp_1"))
    exactly = looked(books, RULE)["beyond_payments"]
    books.tell(moved("pi_1", "txn_2", -1_240_000, "dp_1"))
    beyond = looked(books, RULE)["beyond_payments"]
    books.tell(moved("pi_1", "txn_3", 101_240_000, "dp_1"))
    back = looked(books, RULE)["beyond_payments"]

    assert (exactly.failing, beyond.failing, back.failing) == (False, True, False)
    assert "took more than was paid by 1 payment" in written(beyond)
    assert "pi_1 (Acme): $1.24 too much" in written(beyond)
    assert "calltally explain pi_1" in written(beyond)
    assert all_clear(back) == "No payment of the last day had more taken than was paid"


def test_excess_is_told_for_a_day(books: Books) -> None:
    """Nothing undoes it, and nobody has to end its incident."""
    for number in range(12):
        books.credit(books.organization(), 10_000_000, f"topup:pi_{number}")
        books.tell(moved(f"pi_{number}", f"txn_{number}", -10_000_000 - number - 1, f"dp_{number}"))
    told = looked(books, RULE)["beyond_payments"]

    assert (told.facts["payments"], len(told.facts["first"])) == (12, 10)
    assert f"and {12 - MAX_REFERENCES} more" in written(told)
    later = datetime.now(UTC) + timedelta(days=1, minutes=1)
    assert looked(books, RULE, later)["beyond_payments"].failing is False
