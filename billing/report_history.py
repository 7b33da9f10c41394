"""What a report needs from the books beside its night: the days before it, and the currencies of the wallets."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import Engine

from billing.database import rows, transaction
from billing.figures import Reliability

HISTORY_DAYS = 30


@dataclass(frozen=True, slots=True)
class DayReliability:
    """Of the calls that ended on one day (UTC): how many told us by webhook."""

    day: date
    reliability: Reliability


def load_history(
    engine: Engine, organization_id: UUID | None = None, days: int = HISTORY_DAYS
) -> list[DayReliability]:
    """The last so many days, today included, oldest first; a day without calls is left out.

    Of one organization, or of all calls, those of nobody included.
    """
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT day, sum(by_webhook)::bigint AS by_webhook, sum(ended)::bigint AS ended"
            " FROM vapi_webhook_reliability"
            " WHERE (CAST(:organization_id AS uuid) IS NULL OR organization_id = :organization_id)"
            " AND day > (now() AT TIME ZONE 'UTC')::date - :days AND day <= (now() AT TIME ZONE 'UTC')::date"
            " GROUP BY day ORDER BY day",
            organization_id=organization_id,
            days=days,
        )
    return [DayReliability(row["day"], Reliability(row["by_webhook"], row["ended"])) for row in found]


def load_currencies(engine: Engine) -> dict[UUID, str]:
    """The currency of each organization's wallet."""
    with transaction(engine) as connection:
        return {row["organization_id"]: row["currency"] for row in rows(connection, "SELECT * FROM wallet_balances")}
