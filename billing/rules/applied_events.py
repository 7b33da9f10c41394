"""Webhooks that were accepted are applied within minutes; those that are not are dead, parked or stuck."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.figures import Reliability
from billing.incident_messages import Words
from billing.messages import listing, percent, with_interval
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.rules.shares import surely_below
from billing.settings import Settings

NAME = "applied_events"
THRESHOLD = Decimal("0.99")
"""Nearly everything applies at the first attempt; a single dead event has an alarm of its own."""
WINDOW = timedelta(hours=6)
"""As of billed_calls."""
GRACE = timedelta(minutes=5)
"""What is younger may still be on its way: retries take 14 seconds, a busy worker some minutes."""

# Arms that fit the partial indexes, so that the cost follows the window and not the table.
SELECT = """
WITH accepted AS (
    SELECT id, provider, state IN ('done', 'skipped') AS applied
    FROM events WHERE finished_at >= :since AND finished_at < :now
    UNION ALL
    SELECT id, provider, false FROM events
    WHERE state = 'waiting' AND received_at >= :since AND received_at < :settled
    UNION ALL
    SELECT id, provider, false FROM events
    WHERE state IN ('active', 'delayed') AND received_at >= :since AND received_at < :settled
    UNION ALL
    SELECT id, provider, false FROM events
    WHERE state = 'parked' AND received_at >= :since AND received_at < :settled
)
SELECT
    known.provider,
    count(id) AS accepted,
    count(id) FILTER (WHERE applied) AS applied,
    coalesce(
        (array_agg(id ORDER BY id) FILTER (WHERE NOT applied))[1 : CAST(:examples AS integer)], '{}'
    ) AS first_ids
FROM (VALUES ('stripe'), ('vapi'), ('twilio')) AS known (provider)
LEFT JOIN accepted USING (provider)
GROUP BY known.provider
ORDER BY known.provider
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition per provider."""
    found = rows(
        connection, SELECT, since=now - WINDOW, settled=now - GRACE, now=now, examples=EXAMPLES
    )  # fmt: skip
    return [
        Condition(
            f"{NAME}:{facts['provider']}",
            surely_below(Reliability(facts["applied"], facts["accepted"]), THRESHOLD),
            facts,
            f"{facts['applied']} of {facts['accepted']} events",
        )
        for facts in found
    ]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    share = Reliability(facts["applied"], facts["accepted"])
    provider = facts["provider"]
    return Words(
        headline=f"{share.lost} of {share.ended} {provider} events of the last 6 hours are not applied",
        all_clear=f"Events of {provider} are applied again: {percent(share.ratio)} of {share.ended}",
        next_step=(
            "Look at the first one with `calltally events show ID`. Parked ones wait for a route, waiting ones for a "
            "worker, dead ones for a replay once their cause is mended. Nothing is lost."
        ),
        values={"Applied": with_interval(share), "Alert below": percent(THRESHOLD)},
        paragraphs={"Events": listing(facts["first_ids"], share.lost)},
    )


RULE = Rule(NAME, look, words)
