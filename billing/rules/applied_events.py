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
from billing.rules.shares import in_words, stretch, surely_below
from billing.settings import Settings

NAME = "applied_events"
PROVIDERS = ("stripe", "twilio", "vapi")
THRESHOLD = Decimal("0.99")
"""Nearly everything applies at the first attempt; a single dead or parked event has an alarm of its own."""
WINDOW = timedelta(hours=6)
"""As of billed_calls."""
GRACE = timedelta(minutes=5)
"""What is younger may still be on its way: retries take 14 seconds, a busy worker some minutes."""

# Arms that fit the partial indexes, so that the cost follows the stretch and not the table.
SELECT = """
WITH accepted AS (
    SELECT id, state IN ('done', 'skipped') AS applied, false AS in_line
    FROM events WHERE provider = :provider AND finished_at >= :since AND finished_at < :now
    UNION ALL
    SELECT id, false, true FROM events
    WHERE provider = :provider AND state = 'waiting' AND received_at >= :since AND received_at < :settled
    UNION ALL
    SELECT id, false, true FROM events
    WHERE provider = :provider AND state IN ('active', 'delayed') AND received_at >= :since AND received_at < :settled
    UNION ALL
    SELECT id, false, true FROM events
    WHERE provider = :provider AND state = 'parked' AND received_at >= :since AND received_at < :settled
)
SELECT
    count(*) AS accepted,
    count(*) FILTER (WHERE applied) AS applied,
    count(*) FILTER (WHERE in_line) AS in_line,
    coalesce(
        (array_agg(id ORDER BY id) FILTER (WHERE NOT applied))[1 : CAST(:examples AS integer)], '{}'
    ) AS first_ids
FROM accepted
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition per provider.

    Its incident goes on for as long as one of the events that it was opened about is parked or in line; the dead have
    a rule of their own. Without any event there is nothing to judge by.
    """
    return [_of_provider(connection, provider, now) for provider in PROVIDERS]


def _of_provider(connection: Connection, provider: str, now: datetime) -> Condition:
    key = f"{NAME}:{provider}"
    is_open, since = stretch(connection, key, now - WINDOW)
    [found] = rows(
        connection, SELECT, provider=provider, since=since, settled=now - GRACE, now=now, examples=EXAMPLES
    )  # fmt: skip
    share = Reliability(found["applied"], found["accepted"])
    facts = {"provider": provider, "since": since.isoformat(), **found}
    if not share.ended:
        return Condition(key, None, facts, "no events")
    failing = surely_below(share, THRESHOLD) or (is_open and found["in_line"] > 0)
    return Condition(key, failing, facts, f"{share.by_webhook} of {share.ended} events: {with_interval(share)}")


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    share = Reliability(facts["applied"], facts["accepted"])
    provider = facts["provider"]
    return Words(
        headline=f"{share.lost} of {share.ended} {provider} events since {in_words(facts)} are not applied",
        all_clear=(
            f"Events of {provider} are applied again: {percent(share.ratio)} of {share.ended} since {in_words(facts)}"
        ),
        next_step=(
            "Look at the first one with `calltally events show ID`. Parked ones wait for a route, waiting ones for a "
            "worker, dead ones for a replay once their cause is mended. Nothing is lost."
        ),
        values={"Applied": with_interval(share), "Alert below": percent(THRESHOLD)},
        paragraphs={"Events": listing(facts["first_ids"], share.lost)},
    )


RULE = Rule(NAME, look, words)
