"""The SQL contract for tests: each method is one statement in one transaction."""

from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine

from billing.database import rows, transaction, value

Row = dict[str, Any]


class Books:
    """Calls the functions of `sql/` as the application's role."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        """The rows of a query in a transaction of its own."""
        with transaction(self.engine) as connection:
            return rows(connection, query, **parameters)

    def value(self, query: str, **parameters: Any) -> Any:
        """One value of a query in a transaction of its own."""
        with transaction(self.engine) as connection:
            return value(connection, query, **parameters)

    def organization(self, name: str | None = None, debt_limit_micros: int = 5_000_000) -> UUID:
        """A new organization with an empty wallet."""
        organization_id: UUID = self.value(
            "SELECT create_organization(:name, 'billing@example.com', p_debt_limit_micros => :limit)",
            name=name or f"Organization {uuid4().hex[:8]}",
            limit=debt_limit_micros,
        )
        return organization_id

    def credit(self, organization_id: UUID, amount_micros: int, key: str, kind: str = "topup") -> Row:
        """What credit_wallet answers."""
        return self.rows(
            "SELECT * FROM credit_wallet(:organization_id, :amount, :key, :kind)",
            organization_id=organization_id,
            amount=amount_micros,
            key=key,
            kind=kind,
        )[0]

    def deduct(self, organization_id: UUID, call_id: str, amount_micros: int) -> Row:
        """What deduct_call_credits answers."""
        return self.rows(
            "SELECT * FROM deduct_call_credits(:organization_id, :call_id, :amount)",
            organization_id=organization_id,
            call_id=call_id,
            amount=amount_micros,
        )[0]

    def wallet(self, organization_id: UUID) -> Row:
        """The organization's row of wallet_balances."""
        return self.rows("SELECT * FROM wallet_balances WHERE organization_id = :id", id=organization_id)[0]

    def broken(self) -> list[Row]:
        """The invariants that do not hold; none when healthy."""
        return self.rows("SELECT * FROM check_books()")
