"""Each night the books are compared with Vapi's list by 04:00 UTC. Without it, lost webhooks stay lost money."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import cut
from billing.rules.rule import Condition, Rule
from billing.settings import Settings

NAME = "missing_night"
DUE = time(4, tzinfo=UTC)
"""Nights begin at 03:00 UTC and take minutes; an hour leaves room for one that is repeated."""
CRITICAL_AFTER = timedelta(days=2)
"""The list reaches back 72 hours: from here on calls are about to leave it."""

SELECT = """
SELECT
    (
        SELECT max(window_to) FROM reconciliation_runs
        WHERE state = 'completed' AND kind = 'night' AND NOT dry_run AND organization_id IS NULL
            AND finished_at < :now
    ) AS reached,
    (SELECT min(created_at) FROM organizations) AS begun_at,
    (
        SELECT error FROM reconciliation_runs
        WHERE state = 'failed' AND kind = 'night' AND started_at >= :day AND started_at < :now
        ORDER BY started_at DESC LIMIT 1
    ) AS error
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition: the last night that was due has reached its day. In the first two days none is missed."""
    due = datetime.combine(now.astimezone(UTC).date(), DUE)
    due = due if due <= now else due - timedelta(days=1)
    day = due.replace(hour=0)
    [found] = rows(connection, SELECT, day=day, now=now)
    reached: datetime | None = found["reached"]
    begun: datetime | None = found["begun_at"]
    facts = {
        "due": f"{due:%Y-%m-%d}",
        "reached": f"{reached:%Y-%m-%d %H:%M} UTC" if reached else "never",
        "error": cut(found["error"] or "", 500),
    }
    expected = begun is not None and begun < day - timedelta(days=1)
    missing = expected and (reached is None or reached < day)
    severe = missing and (reached is None or now - reached > CRITICAL_AFTER)
    measured = f"compared up to {facts['reached']}"
    return [Condition(NAME, missing, facts, measured, "critical" if severe else "warning")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    return Words(
        headline=f"The night of {facts['due']} has not compared the books with Vapi's list",
        all_clear=f"The books are compared with Vapi's list again, up to {facts['reached']}",
        next_step=(
            "Look at the runs of `reconcile_calls` in Prefect: none means that no worker serves the pool `nights`. "
            "Then run it, by hand or with `calltally reconcile`: it looks back 72 hours by itself, for calls that "
            "were created or changed since. After a longer gap: `calltally backfill`."
        ),
        values={"Compared up to": facts["reached"]},
        paragraphs={"It failed with": facts["error"]},
    )


RULE = Rule(NAME, look, words)
