"""The line moves: no webhook waits for long, not even in the hands of a worker, which may hang or not keep up."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import listing
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings

NAME = "waiting_events"
CRITICAL_AFTER = timedelta(hours=1)
"""By then wallets are wrong for longer than a customer's call lasts."""

SELECT = """
WITH unsettled AS (
    SELECT id, received_at, false AS claimed FROM events WHERE state = 'waiting'
    UNION ALL
    SELECT id, received_at, true FROM events WHERE state IN ('active', 'delayed')
)
SELECT
    count(*) FILTER (WHERE received_at < :limit) AS events,
    count(*) FILTER (WHERE received_at < :limit AND claimed) AS claimed,
    coalesce(
        (array_agg(id ORDER BY id) FILTER (WHERE received_at < :limit))[1 : CAST(:examples AS integer)], '{}'
    ) AS first_ids,
    min(received_at) AS oldest_at
FROM unsettled
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition; the limit is `health_max_waiting`, as in `GET /health`."""
    limit = now - settings.health_max_waiting
    [found] = rows(connection, SELECT, limit=limit, examples=EXAMPLES)
    minutes = int((now - found["oldest_at"]) / timedelta(minutes=1)) if found["oldest_at"] else 0
    facts = {
        "events": found["events"],
        "claimed": found["claimed"],
        "first_ids": found["first_ids"],
        "minutes": minutes,
    }
    severe = minutes * timedelta(minutes=1) >= CRITICAL_AFTER
    measured = f"the oldest waits for {minutes} minutes" if found["oldest_at"] else "nothing waits"
    return [Condition(NAME, found["events"] > 0, facts, measured, "critical" if severe else "warning")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    count = facts["events"]
    return Words(
        headline=f"{count} {'event waits' if count == 1 else 'events wait'} to be applied, the oldest for "
        f"{facts['minutes']} minutes",
        all_clear="The line of webhooks moves again",
        next_step=(
            "See whether a worker is there (`GET /health`, service `worker`); start one with `calltally worker`. If "
            "one is there and busy, start more; if one holds events and does not end them, restart it. They are "
            "all applied in the end."
        ),
        values={"In the hands of a worker": str(facts.get("claimed", 0))},
        paragraphs={"Events": listing(facts["first_ids"], count)},
    )


RULE = Rule(NAME, look, words)
