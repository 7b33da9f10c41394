"""Refunds and disputes take no more than was paid: what exceeds the payment is the reseller's loss."""

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

NAME = "beyond_payments"
TOLD_FOR = timedelta(days=1)
"""Nothing undoes a loss, so the incident ends by itself."""

SELECT = """
SELECT *, count(*) OVER () AS payments FROM (
    SELECT
        reversed.payment_id,
        organizations.name,
        reversed.currency,
        reversed.excess_booked_micros AS micros
    FROM (SELECT DISTINCT payment_id FROM movements WHERE booked_at > CAST(:since AS timestamptz)) AS moved
    INNER JOIN payment_reversals AS reversed ON reversed.payment_id = moved.payment_id
    INNER JOIN organizations ON organizations.id = reversed.organization_id
    WHERE reversed.excess_booked_micros > 0
) AS losses
ORDER BY micros DESC, payment_id
LIMIT :examples
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all payments of which something moved during the last day."""
    found = rows(connection, SELECT, since=now - TOLD_FOR, examples=EXAMPLES)
    facts = {
        "payments": found[0]["payments"] if found else 0,
        "first": [{key: row[key] for key in ("payment_id", "name", "currency", "micros")} for row in found],
    }
    measured = f"{facts['payments']} payments" if found else "none"
    return [Condition(NAME, bool(found), facts, f"{measured} of which more was taken than was paid")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    count = facts["payments"]
    first = facts["first"][0]["payment_id"] if facts["first"] else "pi_…"
    losses = [
        f"{loss['payment_id']} ({loss['name']}): {format_micros(loss['micros'], loss['currency'])} too much"
        for loss in facts["first"][:MAX_REFERENCES]
    ]
    more = count - len(losses)
    return Words(
        headline=(
            f"Refunds and disputes took more than was paid by {count} {'payment' if count == 1 else 'payments'}"
        ),
        all_clear="No payment of the last day had more taken than was paid",
        next_step=(
            f"See what moved: `calltally explain {first}`, and compare it with the payment at Stripe. The excess is"
            " yours, in `disputes`; what comes back of it is booked by itself."
        ),
        paragraphs={"Payments": "\n".join([*losses, *([f"and {more} more"] if more > 0 else [])])},
    )


RULE = Rule(NAME, look, words)
