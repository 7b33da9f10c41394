"""The SQL contract for tests: each method is one statement in one transaction."""

import json
from datetime import UTC, datetime, timedelta
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

    def debt_limit(self, organization_id: UUID, debt_limit_micros: int) -> int:
        """Set the debt limit; what that settled."""
        settled: int = self.value("SELECT set_debt_limit(:id, :limit)", id=organization_id, limit=debt_limit_micros)
        return settled

    def policy(self, organization_id: UUID, charge_policy: str) -> None:
        """Set what happens to a charge past the limit."""
        self.value("SELECT set_charge_policy(:id, :policy)", id=organization_id, policy=charge_policy)

    def price(
        self,
        organization_id: UUID | None,
        per_minute_micros: int,
        *,
        increment: int = 1,
        minimum: int = 0,
        free: int = 0,
        since: str = "-infinity",
    ) -> int:
        """Set a price; its id."""
        price_id: int = self.value(
            "SELECT set_price(:id, :price, :increment, :minimum, :free, CAST(:since AS timestamptz))",
            id=organization_id,
            price=per_minute_micros,
            increment=increment,
            minimum=minimum,
            free=free,
            since=since,
        )
        return price_id

    def route(self, organization_id: UUID, assistant_id: str, since: str | None = None) -> Row:
        """What add_route answers for an assistant."""
        return self.rows(
            "SELECT * FROM add_route(:id, 'assistant', :assistant, CAST(:since AS timestamptz))",
            id=organization_id,
            assistant=assistant_id,
            since=since,
        )[0]

    def record(self, *calls: Row, reconciled: bool = False) -> list[Row]:
        """What record_calls answers, by call id."""
        return self.rows(
            "SELECT * FROM record_calls(CAST(:calls AS jsonb), :reconciled) ORDER BY call_id",
            calls=json.dumps(calls),
            reconciled=reconciled,
        )

    def correct(self, call_id: str, seconds: float) -> int | None:
        """What correct_call answers when a call of `told_call` turns out to have lasted so long."""
        told = told_call(call_id, None, seconds)
        difference: int | None = self.value(
            "SELECT correct_call(:id, CAST(:started AS timestamptz), CAST(:ended AS timestamptz), NULL)",
            id=call_id,
            started=told["started_at"],
            ended=told["ended_at"],
        )
        return difference

    def tell(self, *movements: Row) -> dict[str, tuple[str, str | None]]:
        """What record_movements answers to movements of `moved`: outcome and reason by id."""
        answers = self.rows("SELECT * FROM record_movements(CAST(:told AS jsonb))", told=json.dumps(movements))
        return {row["movement_id"]: (row["outcome"], row["reason"]) for row in answers}

    def refund(self, payment_id: str, refund_id: str, amount_micros: int) -> tuple[str, str | None]:
        """What became of a refund that Stripe tells of."""
        return self.tell(moved(payment_id, refund_id, -amount_micros))[refund_id]

    def charges(self, organization_id: UUID) -> list[Row]:
        """The organization's charges in the order of their keys."""
        return self.rows(
            "SELECT * FROM charges WHERE organization_id = :id ORDER BY idempotency_key", id=organization_id
        )

    def transfers(self, organization_id: UUID) -> list[Row]:
        """The transfers of the organization's wallet in the order in which they were booked."""
        return self.rows(
            "SELECT * FROM transfers WHERE organization_id = :id AND wallet_sequence IS NOT NULL"
            " ORDER BY wallet_sequence",
            id=organization_id,
        )

    def states(self, organization_id: UUID) -> dict[str, str]:
        """The state of each charge by its key."""
        return {row["idempotency_key"]: row["state"] for row in self.charges(organization_id)}

    def balance(self, organization_id: UUID) -> int:
        """The stored balance in micros."""
        balance: int = self.wallet(organization_id)["balance_micros"]
        return balance


def told_call(
    call_id: str,
    assistant_id: str | None,
    seconds: float | None,
    created_at: datetime = datetime(2026, 7, 1, tzinfo=UTC),
) -> Row:
    """A call as record_calls is told of it; without seconds it never connected."""
    started_at = None if seconds is None else created_at + timedelta(seconds=5)
    ended_at = started_at and started_at + timedelta(seconds=seconds or 0)
    return {
        "id": call_id,
        "assistant_id": assistant_id,
        "created_at": created_at.isoformat(),
        "started_at": started_at and started_at.isoformat(),
        "ended_at": ended_at and ended_at.isoformat(),
    }


def moved(payment_id: str | None, name: str, amount_micros: int, source: str | None = None, **other: Any) -> Row:
    """A movement as record_movements is told of it: of a refund, or of the dispute that is its `source`."""
    is_dispute = source is not None
    return {
        "id": name,
        "kind": "dispute" if is_dispute else "refund",
        "source_id": source or name.partition(":")[0],
        "payment_id": payment_id,
        "charge_id": None,
        "amount_micros": amount_micros,
        "currency": "USD",
        "disputed_micros": abs(amount_micros) if is_dispute else None,
        "disputed_currency": "USD" if is_dispute else None,
        "event_at": "2026-07-01T00:00:00+00:00",
        **other,
    }
