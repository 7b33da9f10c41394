"""Money that is owed."""

from decimal import Decimal

import pytest

from billing.rules.outstanding_money import RULE
from tests.books import Books

from .looking import all_clear, looked, written


@pytest.mark.parametrize(("micros", "failing"), [(50_000_000, False), (50_000_001, True)])
def test_sum_beyond_the_limit_is_found(books: Books, micros: int, failing: bool) -> None:
    """All organizations together; exactly the limit is well."""
    books.deduct(books.organization("Small"), "call-1", 10_000_000)
    books.deduct(books.organization("Big"), "call-2", micros - 10_000_000)
    condition = looked(books, RULE)["outstanding_money"]

    assert condition.failing is failing
    assert [debtor["name"] for debtor in condition.facts["first"]] == ["Big", "Small"]
    assert looked(books, RULE, outstanding_limit=Decimal(1000))["outstanding_money"].failing is False
    if failing:
        assert "$50.000001 outstanding with 2 organizations" in written(condition)
        assert "Big: $40.000001" in written(condition)


def test_debts_of_many_are_summed_and_those_of_ten_named(books: Books) -> None:
    """The biggest first; what is settled is no debt any more."""
    organizations = [books.organization(f"Organization {n:02}") for n in range(12)]
    for n, organization_id in enumerate(organizations):
        books.deduct(organization_id, f"call-{n}", 10_000_000 + n)
    condition = looked(books, RULE)["outstanding_money"]
    for n, organization_id in enumerate(organizations):
        books.credit(organization_id, 20_000_000, f"topup:pi_{n}")
    after = looked(books, RULE)["outstanding_money"]

    assert condition.facts["totals"] == [{"currency": "USD", "micros": 120_000_066, "organizations": 12}]
    assert condition.facts["first"][0] == {"name": "Organization 11", "currency": "USD", "micros": 10_000_011}
    assert "and 2 more" in written(condition)
    assert (after.failing, after.measured) == (False, "nothing is outstanding")
    assert all_clear(after) == "Little is outstanding any more: nothing"
