"""Transfers between the reseller's own accounts: in the ledger, in nobody's wallet. What was sold by a payment."""

from uuid import UUID

import psycopg
import pytest

from billing.errors import ConstraintBroken, IdempotencyConflict, InvalidAmount
from tests.books import Books, Row
from tests.databases import Scratch


@pytest.fixture
def paid(shared: Books, tag: str) -> UUID:
    """An organization that paid 10 dollars with payment `tag`."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    return organization_id


def book(
    scratch: Scratch, organization_id: UUID, key: str, micros: int = 2_000_000, to_kind: str = "disputes"
) -> Row:
    """What book_own_transfer answers, of kind excess and out of `stripe`; it is internal, so the owner asks."""
    return scratch.owner.rows(
        "SELECT * FROM book_own_transfer(:id, 'stripe', :to_kind, :micros, 'USD', 'excess', :key, now(), NULL)",
        id=organization_id,
        to_kind=to_kind,
        micros=micros,
        key=key,
    )[0]


def test_transfer_between_own_accounts_moves_no_wallet(crowded: Scratch, tag: str, paid: UUID) -> None:
    """It has no number, no balance and no limit; the statement is the wallet's alone, and the books add up."""
    booked = book(crowded, paid, f"excess:{tag}")

    assert (booked["wallet_sequence"], booked["balance_after_micros"], booked["debt_limit_micros"]) == (None,) * 3
    assert booked["organization_id"] == paid
    assert crowded.books.balance(paid) == 10_000_000
    assert len(crowded.books.rows("SELECT FROM wallet_statement WHERE organization_id = :id", id=paid)) == 1
    assert crowded.books.rows("SELECT * FROM check_books() WHERE organization_id = :id", id=paid) == []
    assert crowded.books.deduct(paid, tag, 1)["balance_after_micros"] == 9_999_999
    assert [row["wallet_sequence"] for row in crowded.books.transfers(paid)] == [1, 2]


def test_transfer_between_own_accounts_is_booked_once(crowded: Scratch, tag: str, paid: UUID) -> None:
    """The same key answers with the same row, and with other facts is refused."""
    first = book(crowded, paid, f"excess:{tag}")

    assert book(crowded, paid, f"excess:{tag}") == first
    with pytest.raises(IdempotencyConflict):
        book(crowded, paid, f"excess:{tag}", 1_999_999)
    with pytest.raises(IdempotencyConflict):
        book(crowded, paid, f"excess:{tag}", to_kind="tax")


@pytest.mark.parametrize("micros", [0, -1])
def test_transfer_between_own_accounts_needs_an_amount(crowded: Scratch, tag: str, paid: UUID, micros: int) -> None:
    """Direction is from and to; an amount is positive."""
    with pytest.raises(InvalidAmount):
        book(crowded, paid, f"excess:{tag}", micros)


@pytest.mark.parametrize(
    "spoilt",
    [
        "from_account = organization_id, to_account = organization_id",
        "wallet_sequence = NULL",
        "balance_after_micros = NULL",
        "to_account = own_account('tax', 'USD')",
        "to_account = from_account, wallet_sequence = NULL, balance_after_micros = NULL, debt_limit_micros = NULL",
    ],
)
def test_transfer_has_one_wallet_with_its_balance_or_none_of_both(
    crowded: Scratch, tag: str, paid: UUID, spoilt: str
) -> None:
    """Whatever is between is no transfer, whoever writes it."""
    with pytest.raises(ConstraintBroken):
        crowded.owner.rows(
            f"SET LOCAL session_replication_role = replica; UPDATE transfers SET {spoilt} WHERE payment_id = '{tag}'"
        )


def test_tenant_sees_its_wallets_movements_alone(crowded: Scratch, tag: str, paid: UUID) -> None:
    """What the reseller moves on its behalf is the reseller's."""
    book(crowded, paid, f"excess:{tag}")

    with psycopg.connect(crowded.url) as connection:
        connection.execute("SET ROLE calltally_tenant")
        connection.execute("SELECT set_config('app.org_id', %s, true)", (str(paid),))
        assert connection.execute("SELECT kind FROM transfers").fetchall() == [("topup",)]


def test_credit_by_hand_is_sold_whole(shared: Books, tag: str, paid: UUID) -> None:
    """Nobody told of tax or fees: what arrived is what was credited."""
    (payment,) = shared.rows("SELECT * FROM payments WHERE payment_id = :id", id=tag)

    assert (payment["organization_id"], payment["currency"]) == (paid, "USD")
    assert (payment["charged_micros"], payment["credited_micros"]) == (10_000_000, 10_000_000)
    assert (payment["tax_micros"], payment["discount_micros"], payment["fee_micros"]) == (0, 0, 0)


def test_adjustment_is_no_payment(shared: Books, tag: str) -> None:
    """A gift has no payer."""
    shared.credit(shared.organization(), 1, tag, "adjustment")

    assert shared.rows("SELECT * FROM payments WHERE payment_id = :id", id=tag) == []
