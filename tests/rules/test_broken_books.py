"""Books that are wrong."""

from billing.rules.broken_books import RULE
from tests.books import Books

from .looking import all_clear, looked, written


def test_broken_invariant_is_critical_and_named(books: Books, owner: Books) -> None:
    """With the organizations that it is about, the first ten of them."""
    ids = sorted(str(books.organization(f"Organization {n}")) for n in range(12))
    well = looked(books, RULE)["broken_books"]
    owner.rows("UPDATE wallets SET balance_micros = balance_micros + 1 RETURNING 1")
    condition = looked(books, RULE)["broken_books"]

    assert (well.failing, well.measured) == (False, "every invariant holds")
    assert all_clear(well) == "Every invariant of the books holds again"
    assert (condition.failing, condition.severity) == (True, "critical")
    assert {"name": "stored_balance_equals_transfers", "rows": 12} in condition.facts["invariants"]
    assert condition.facts["organizations"] == ids[:10]
    assert "Critical: check_books() finds" in written(condition)
    assert "calltally books check" in written(condition)
