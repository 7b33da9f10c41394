"""What organizations owe beyond their limits stays small: it is money that was spent at Vapi and not paid yet."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import MAX_REFERENCES
from billing.money import MICROS, format_micros
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings

NAME = "outstanding_money"

SELECT = """
SELECT * FROM (
    SELECT
        organizations.name,
        owed.currency,
        outstanding_micros,
        count(*) OVER (PARTITION BY owed.currency) AS organizations,
        sum(outstanding_micros) OVER (PARTITION BY owed.currency)::bigint AS total_micros,
        row_number() OVER (PARTITION BY owed.currency ORDER BY outstanding_micros DESC, name) AS place
    FROM (
        SELECT organization_id, wallets.currency, sum(amount_micros)::bigint AS outstanding_micros
        FROM charges
        INNER JOIN wallets USING (organization_id)
        WHERE state = 'outstanding'
        GROUP BY organization_id, wallets.currency
    ) AS owed
    INNER JOIN organizations ON organizations.id = owed.organization_id
) AS debtors
WHERE place <= :examples
ORDER BY outstanding_micros DESC, name
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all currencies; the limit is `outstanding_limit` in units of each."""
    limit_micros = int(settings.outstanding_limit * MICROS)
    found = rows(connection, SELECT, examples=EXAMPLES)
    totals = {row["currency"]: (row["total_micros"], row["organizations"]) for row in found}
    facts = {
        "limit_micros": limit_micros,
        "totals": [
            {"currency": currency, "micros": micros, "organizations": organizations}
            for currency, (micros, organizations) in sorted(totals.items())
        ],
        "first": [
            {"name": row["name"], "currency": row["currency"], "micros": row["outstanding_micros"]}
            for row in found[:EXAMPLES]
        ],
    }
    failing = any(micros > limit_micros for micros, _ in totals.values())
    return [Condition(NAME, failing, facts, _amounts(facts) or "nothing is outstanding")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    organizations = sum(total["organizations"] for total in facts["totals"])
    debtors = [
        f"{debtor['name']}: {format_micros(debtor['micros'], debtor['currency'])}" for debtor in facts["first"]
    ]
    more = organizations - len(debtors[:MAX_REFERENCES])
    return Words(
        headline=(
            f"{_amounts(facts)} outstanding with {organizations} "
            f"{'organization' if organizations == 1 else 'organizations'}"
        ),
        all_clear=f"Little is outstanding any more: {_amounts(facts) or 'nothing'}",
        next_step=(
            "Ask them to top up, or stop their assistants: calls beyond the limit are owed, and Vapi bills them."
        ),
        values={"Alert above": f"{facts['limit_micros'] / MICROS:.2f} of a currency"},
        paragraphs={
            "Who owes most": "\n".join([*debtors[:MAX_REFERENCES], *([f"and {more} more"] if more > 0 else [])])
        },
    )


def _amounts(facts: Mapping[str, Any]) -> str:
    return ", ".join(format_micros(total["micros"], total["currency"]) for total in facts["totals"])


RULE = Rule(NAME, look, words)
