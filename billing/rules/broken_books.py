"""The books are right: every invariant of check_books() holds. A broken one means that money may be wrong."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import MAX_REFERENCES
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings

NAME = "broken_books"

SELECT = "SELECT name, organization_id::text FROM check_books() ORDER BY name, organization_id"


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all invariants, always critical: nothing that we know of breaks one."""
    found = rows(connection, SELECT)
    counts = Counter(row["name"] for row in found)
    facts = {
        "rows": len(found),
        "invariants": [{"name": name, "rows": count} for name, count in counts.most_common(EXAMPLES)],
        "organizations": list(
            dict.fromkeys(row["organization_id"] for row in found if row["organization_id"])
        )[:EXAMPLES],
    }  # fmt: skip
    measured = f"{len(counts)} invariants broken" if found else "every invariant holds"
    return [Condition(NAME, bool(found), facts, measured, "critical")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    broken = [
        f"`{invariant['name']}`: {invariant['rows']} rows" for invariant in facts["invariants"][:MAX_REFERENCES]
    ]
    return Words(
        headline=f"check_books() finds {facts['rows']} broken {'row' if facts['rows'] == 1 else 'rows'}",
        all_clear="Every invariant of the books holds again",
        next_step=(
            "Run `calltally books check` for the details. Stop the worker before you mend anything: webhooks are "
            "kept meanwhile. The ledger is corrected by new transfers, never changed."
        ),
        paragraphs={
            "Invariants": "\n".join(broken),
            "Organizations": "\n".join(f"`{organization}`" for organization in facts["organizations"]),
        },
    )


RULE = Rule(NAME, look, words)
