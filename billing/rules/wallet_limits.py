"""Wallets keep clear of their debt limit. At it their calls go on, but what they cost is only owed.

One whose recharge threshold somebody has set is told below it, whatever its limit; all others once four fifths of
their limit are used.

SQL says which wallet is near its limit and which is at it: the view wallet_balances, for everybody alike.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import MAX_REFERENCES
from billing.money import format_micros
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings

NAME = "wallet_limits"
ACTIVE = timedelta(days=7)
"""A customer without calls for so long is not about to reach anything; past the limit or owing, one always counts."""

SELECT = """
WITH troubled AS (
    SELECT
        organizations.name,
        balances.currency,
        balances.balance_micros,
        balances.debt_limit_micros,
        balances.outstanding_micros,
        balances.balance_micros < -balances.debt_limit_micros AS past
    FROM wallet_balances AS balances
    INNER JOIN organizations ON organizations.id = balances.organization_id
    INNER JOIN wallets ON wallets.organization_id = balances.organization_id
    WHERE balances.outstanding_micros > 0
        OR balances.balance_micros < -balances.debt_limit_micros
        OR (
            (
                balances.state IN ('near_limit', 'at_limit')
                OR (balances.needs_recharge AND wallets.recharge_threshold_micros > 0)
            )
            AND EXISTS (
                SELECT FROM calls WHERE calls.organization_id = balances.organization_id AND created_at >= :active
            )
        )
)
SELECT
    *,
    count(*) OVER () AS wallets,
    count(*) FILTER (WHERE past) OVER () AS wallets_past,
    count(*) FILTER (WHERE outstanding_micros > 0) OVER () AS wallets_owing
FROM troubled
ORDER BY balance_micros + debt_limit_micros - outstanding_micros, name
LIMIT :examples
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all wallets."""
    found = rows(connection, SELECT, active=now - ACTIVE, examples=EXAMPLES)
    wallets = found[0]["wallets"] if found else 0
    shown = ("name", "currency", "balance_micros", "debt_limit_micros", "outstanding_micros")
    facts = {
        "wallets": wallets,
        "past": found[0]["wallets_past"] if found else 0,
        "owing": found[0]["wallets_owing"] if found else 0,
        "first": [{column: row[column] for column in shown} for row in found],
    }
    return [Condition(NAME, wallets > 0, facts, f"{wallets} wallets at or near their limit")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    count = facts["wallets"]
    more = count - len(facts["first"][:MAX_REFERENCES])
    lines = [
        f"{wallet['name']}: {format_micros(wallet['balance_micros'], wallet['currency'])}, limit "
        f"{format_micros(-wallet['debt_limit_micros'], wallet['currency'])}{_owed(wallet)}"
        for wallet in facts["first"][:MAX_REFERENCES]
    ]
    return Words(
        headline=(
            f"{count} {'wallet is' if count == 1 else 'wallets are'} at the debt limit or near it, or below the "
            "recharge threshold"
        ),
        all_clear="No wallet is near its debt limit any more, or below its recharge threshold",
        next_step=(
            "Ask them to top up: the next payment settles what is owed, oldest first. A wallet past its limit was "
            "taken there by a refund or a dispute."
        ),
        values={"Past the limit": str(facts["past"]), "With refused charges": str(facts.get("owing", 0))},
        paragraphs={"Wallets": "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])},
    )


def _owed(wallet: Mapping[str, Any]) -> str:
    owed = wallet.get("outstanding_micros", 0)
    return f", {format_micros(owed, wallet['currency'])} refused and owed" if owed else ""


RULE = Rule(NAME, look, words)
