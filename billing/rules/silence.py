"""Providers are heard from: where events came at this time on other days, none for a while is a broken way.

Silence alone says nothing, since nobody calls at night. So the silent stretch is laid over the past: if events came
in the same stretch of each of the last 7 days, or of the same weekday in each of the last 3 weeks, it is unusual.
Shorter histories never alarm.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.rules.rule import Condition, Rule
from billing.settings import Settings

NAME = "silence"
SHORTEST = timedelta(minutes=20)
"""Shorter gaps are chance, or a restart. The rule looks every 15 minutes, so it sees the end of every silence."""
LONGEST = timedelta(days=3)
"""Of a longer silence the last 3 days are looked at."""
EVENTS = 10
"""As many must have come in each stretch of the past: where 10 are expected, none by chance is 1 in 22,000."""
DAYS = 7
WEEKS = 3

# Each range is read through the BRIN index on received_at, and no further than to the tenth event.
LAST_EVENT = """
SELECT known.provider, (
    SELECT max(received_at) FROM events
    WHERE events.provider = known.provider AND received_at >= :since AND received_at < :now
) AS last_at
FROM (VALUES ('stripe'), ('vapi'), ('twilio')) AS known (provider)
WHERE EXISTS (SELECT FROM events WHERE events.provider = known.provider AND received_at < :now)
"""
EVENTS_BACK_THEN = """
SELECT (
    SELECT count(*) FROM (
        SELECT FROM events
        WHERE provider = :provider AND received_at >= :start - back.days * interval '1 day'
            AND received_at < :now - back.days * interval '1 day'
        LIMIT :enough
    ) AS found
) AS events
FROM unnest(CAST(:days AS integer[])) AS back (days)
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition per provider that was ever heard from."""
    found = rows(connection, LAST_EVENT, since=now - LONGEST, now=now)
    return [_of_provider(connection, row["provider"], row["last_at"], now) for row in found]


def _of_provider(connection: Connection, provider: str, last_at: datetime | None, now: datetime) -> Condition:
    start = max(last_at, now - LONGEST) if last_at else now - LONGEST
    facts = {
        "provider": provider,
        "last_at": f"{last_at:%Y-%m-%d %H:%M} UTC" if last_at else "more than 3 days ago",
        "minutes": int((now - start) / timedelta(minutes=1)),
    }
    measured = f"last event {facts['last_at']}"
    if now - start < SHORTEST:
        return Condition(f"{NAME}:{provider}", failing=False, facts=facts, measured=measured)
    unusual = _always_events(connection, provider, start, now, [*range(1, DAYS + 1)]) or _always_events(
        connection, provider, start, now, [7 * week for week in range(1, WEEKS + 1)]
    )
    # What was unusual does not become usual by lasting: only an event ends it.
    return Condition(f"{NAME}:{provider}", True if unusual else None, facts, measured)


def _always_events(connection: Connection, provider: str, start: datetime, now: datetime, days: list[int]) -> bool:
    """Whether enough events came in the same stretch so many days earlier, on each of them."""
    found = rows(connection, EVENTS_BACK_THEN, provider=provider, start=start, now=now, days=days, enough=EVENTS)
    return all(row["events"] >= EVENTS for row in found)


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    provider: str = facts["provider"]
    hours, minutes = divmod(int(facts["minutes"]), 60)
    return Words(
        headline=f"No {provider} event for {hours} h {minutes} min, although this time of day always brought some",
        all_clear=f"Events of {provider} arrive again",
        next_step=(
            f"See whether the receiver is up and reachable from outside, and what {provider} says of its deliveries: "
            "wrong address, expired secret, endpoint switched off. On a holiday this may be nothing."
        ),
        values={"Last event": facts["last_at"]},
    )


RULE = Rule(NAME, look, words)
