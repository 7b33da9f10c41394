"""Calls that ended are billed: charged, owed or free. What is not has no organization or no price.

Those that are held for a person are another rule's.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.figures import Reliability
from billing.incident_messages import Words
from billing.messages import listing, percent, with_interval
from billing.naming import naming_command
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.rules.shares import in_words, stretch, surely_below
from billing.settings import Settings

NAME = "billed_calls"
THRESHOLD = Decimal("0.99")
"""A call with a route is charged in the transaction that stores it, so anything less is a forgotten route."""
WINDOW = timedelta(hours=6)
"""Long enough for some calls on a quiet day; what is found in it is watched until the last of it is billed."""
LONGEST_CALL = timedelta(hours=12)
"""Vapi ends calls after at most so long (maxDurationSeconds is 43,200 at most)."""

SELECT = """
WITH ended AS (
    SELECT calls.*, EXISTS (SELECT FROM charges WHERE idempotency_key = 'call:' || calls.id) AS billed
    FROM calls
    WHERE
        held IS NULL
        AND created_at >= :since - CAST(:longest AS interval) AND ended_at >= :since AND ended_at < :now
)
SELECT
    count(*) AS ended,
    count(*) FILTER (WHERE billed) AS billed,
    (SELECT coalesce(array_agg(id), '{}') FROM (
        SELECT id FROM ended WHERE NOT billed ORDER BY id LIMIT :examples
    ) AS first) AS first_ids,
    count(*) FILTER (WHERE NOT billed AND organization_id IS NOT NULL) AS unpriced
FROM ended
"""
UNROUTED = """
SELECT
    min(id) AS id,
    assistant_id,
    squad_id,
    workflow_id,
    phone_number_id,
    metadata
FROM calls
WHERE
    held IS NULL AND organization_id IS NULL
    AND created_at >= :since - CAST(:longest AS interval) AND ended_at >= :since AND ended_at < :now
GROUP BY
    assistant_id, squad_id, workflow_id, phone_number_id, metadata,
    CASE WHEN num_nonnulls(assistant_id, squad_id, workflow_id, phone_number_id, metadata) = 0 THEN id END
ORDER BY count(*) DESC, min(id)
LIMIT :examples
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all organizations.

    Its incident goes on for as long as one of the calls that it was opened about is not billed, however old they
    become meanwhile. Without any call there is nothing to judge by.
    """
    is_open, since = stretch(connection, NAME, now - WINDOW)
    [found] = rows(connection, SELECT, since=since, now=now, longest=LONGEST_CALL, examples=EXAMPLES)
    unrouted = rows(connection, UNROUTED, since=since, now=now, longest=LONGEST_CALL, examples=EXAMPLES)
    commands = list(dict.fromkeys(naming_command(call) for call in unrouted))
    share = Reliability(found["billed"], found["ended"])
    facts = {"since": since.isoformat(), **found, "commands": commands}
    if not share.ended:
        return [Condition(NAME, None, facts, "no calls")]
    failing = surely_below(share, THRESHOLD) or (is_open and share.lost > 0)
    return [Condition(NAME, failing, facts, f"{share.by_webhook} of {share.ended} calls: {with_interval(share)}")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    share = Reliability(facts["billed"], facts["ended"])
    return Words(
        headline=f"{share.lost} of {share.ended} calls since {in_words(facts)} are not billed",
        all_clear=f"Calls are billed again: {percent(share.ratio)} of {share.ended} since {in_words(facts)}",
        next_step=_next_step(facts),
        values={"Billed": with_interval(share), "Alert below": percent(THRESHOLD)},
        paragraphs={"Calls": listing(facts["first_ids"], share.lost)},
    )


def _next_step(facts: Mapping[str, Any]) -> str:
    """Alerts of an earlier version do not say of which calls."""
    steps = []
    if facts.get("commands") or not facts.get("unpriced"):
        named = "\n".join(f"`{command}`" for command in facts.get("commands", [])) or "`calltally route add`"
        steps.append(
            "Nobody is known to pay for them: say who, and they are billed at once, at the price of their time.\n"
            f"{named}"
        )
    if facts.get("unpriced"):
        steps.append(f"{facts['unpriced']} have no price: in SQL, `set_price(…)` gives their organization one.")
    return "\n".join(steps)


RULE = Rule(NAME, look, words)
