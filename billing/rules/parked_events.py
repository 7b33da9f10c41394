"""No event stays parked: money came and nobody is credited, or somebody called or wrote and is not billed for it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import in_words, listing
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings
from billing.unapplied import PARKED_LIMIT, next_step

NAME = "parked_events"
CRITICAL_AFTER = timedelta(days=1)
"""Whoever paid has looked at the balance by then."""

# Only events that move money are ever parked. Behind its colon a reason says what it is about.
PARKED = """
SELECT
    provider,
    split_part(reason, ':', 1) AS reason,
    count(*) AS events,
    (array_agg(id ORDER BY id))[1 : CAST(:examples AS integer)] AS first_ids,
    min(received_at) AS oldest_at
FROM events
WHERE state = 'parked'
GROUP BY provider, split_part(reason, ':', 1)
ORDER BY provider, reason
"""
OPEN = """
SELECT key, facts FROM incidents WHERE closed_at IS NULL AND starts_with(key, CAST(:name AS text) || ':') ORDER BY key
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition per provider and reason, so that one more event of a kind is no news.

    An incident begins with an event that is parked for too long, and lasts until none of its kind is left.
    """
    opened = {row["key"]: row["facts"] for row in rows(connection, OPEN, name=NAME)}
    conditions = []
    for group in rows(connection, PARKED, examples=EXAMPLES):
        key = f"{NAME}:{group['provider']}:{group['reason']}"
        conditions.append(_of_group(key, group, now, is_open=opened.pop(key, None) is not None))
    over = {"events": 0, "first_ids": [], "minutes": 0}
    conditions += [
        Condition(key, failing=False, facts={**facts, **over}, measured="none is parked")
        for key, facts in opened.items()
    ]
    return conditions or [Condition(NAME, failing=False, facts={}, measured="no event is parked")]


def _of_group(key: str, group: Mapping[str, Any], now: datetime, *, is_open: bool) -> Condition:
    parked = now - group["oldest_at"]
    facts = {name: group[name] for name in ("provider", "reason", "events", "first_ids")}
    return Condition(
        key,
        is_open or parked > PARKED_LIMIT,
        {**facts, "minutes": int(parked / timedelta(minutes=1))},
        f"{group['events']} events, the oldest for {in_words(parked.total_seconds())}",
        "critical" if parked >= CRITICAL_AFTER else "warning",
    )


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above; never what the events say."""
    provider, reason, count = facts["provider"], facts["reason"], facts["events"]
    first = facts["first_ids"][0] if facts["first_ids"] else 0
    step = next_step("parked", reason, first)
    return Words(
        headline=(
            f"{count} {provider} {'event is' if count == 1 else 'events are'} parked, the oldest for "
            f"{in_words(facts['minutes'] * 60)}: {reason}"
        ),
        all_clear=f"No {provider} event is parked of {reason} any more",
        next_step=f"Look at one: `calltally events show {first}`. {step[0].upper()}{step[1:]}. Nothing is lost.",
        paragraphs={"Events": listing(facts["first_ids"], count)},
    )


RULE = Rule(NAME, look, words)
