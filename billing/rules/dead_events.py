"""No webhook is given up: a dead event is money that moved at a provider and not in the books."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from billing.database import rows, value
from billing.incident_messages import Words
from billing.messages import cut, listing
from billing.rules.rule import Condition, Rule
from billing.settings import Settings

NAME = "dead_events"

SELECT = """
SELECT key, facts FROM incidents WHERE closed_at IS NULL AND starts_with(key, 'dead_events:') ORDER BY key
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition per provider and kind of error. SQL notes them itself: it sees each death exactly once."""
    value(connection, "SELECT note_dead_events()")
    found = rows(connection, SELECT)
    failing = [
        Condition(row["key"], failing=True, facts=row["facts"], measured=f"{row['facts']['events']} events")
        for row in found
    ]
    return failing or [Condition(NAME, failing=False, facts={}, measured="no event is dead")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts that SQL's note_dead_events writes; never what the events say."""
    provider, error, count = facts["provider"], facts["error"], facts["events"]
    replay = f"calltally events replay --state dead --error {error}"
    first = facts["first_ids"][0] if facts["first_ids"] else "ID"
    return Words(
        headline=f"{count} {provider} {'event' if count == 1 else 'events'} could not be applied: {error}",
        all_clear=f"No {provider} event is dead of {error} any more",
        next_step=(
            f"Look at one: `calltally events show {first}`. Nothing is lost: mend the cause, then "
            f"`{cut(replay, 500)} --dry-run`, and the same without `--dry-run`."
        ),
        paragraphs={"Events": listing(facts["first_ids"], count), "For example": cut(facts["example"], 500)},
    )


RULE = Rule(NAME, look, words, notes_itself=True)
