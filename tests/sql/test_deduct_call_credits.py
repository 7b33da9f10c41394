"""The debt limit, case by case as people of the earlier system know them."""

from tests.books import Books


def test_deduct_within_limit_succeeds(books: Books) -> None:
    """A call may take a wallet into debt as far as the default limit of 5 dollars."""
    organization_id = books.organization()
    books.credit(organization_id, 1_000_000, "topup:pi_1")

    answer = books.deduct(organization_id, "c1", 4_000_000)

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
