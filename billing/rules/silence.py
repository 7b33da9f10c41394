"""Providers are heard from: a pause that is longer than their usual ones is a broken way.

Silence alone says nothing, since nobody calls at night, and some pay twice a week. Two things say that it is unusual:

- it lasts more than twice as long as a pause that has come three times in 30 days. So nights and weekends are usual,
  and one earlier outage, or two, make no other one so. This finds the silence of those who are seldom heard.
- it is laid over the past, and events came in the same stretch on 6 of the last 7 days, this day of last week among
  them, or on the same weekday in 3 of the last 4 weeks. This finds the silence of those who are heard often, early.

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
HISTORY = timedelta(days=30)
LONGER = 2
"""Times as long as a usual pause: of purely random arrivals, three a day, one in a thousand pauses is so long."""
USUAL = 3
"""A pause that came so often is usual: weekends come four times in 30 days, outages hardly."""
PAUSES = 20
"""So many must be known."""
LONGEST = timedelta(days=3)
"""Of a longer silence the last 3 days are laid over the past."""
EVENTS = 10
"""As many must have come in each stretch of the past: where 10 are expected, none by chance is 1 in 22,000."""
DAYS, ENOUGH_DAYS = 7, 6
WEEKS, ENOUGH_WEEKS = 4, 3

# Ten minutes are fine enough here, and make a few thousand rows of however many events.
PAUSES_OF_ALL = """
WITH heard AS (
    SELECT provider, date_bin('10 minutes', received_at, '2000-01-01 00:00+00') AS at, max(received_at) AS last_at
    FROM events
    WHERE received_at >= :since AND received_at < :now
    GROUP BY provider, at
),

pauses AS (
    SELECT provider, last_at, at - lag(at) OVER (PARTITION BY provider ORDER BY at) AS pause FROM heard
)

SELECT
    known.provider,
    max(pauses.last_at) AS last_at,
    count(pauses.pause) AS pauses,
    (array_agg(pauses.pause ORDER BY pauses.pause DESC) FILTER (WHERE pauses.pause IS NOT NULL))[:usual] AS usual
FROM (VALUES ('stripe'), ('vapi'), ('twilio')) AS known (provider)
LEFT JOIN pauses USING (provider)
WHERE EXISTS (SELECT FROM events WHERE events.provider = known.provider AND received_at < :now)
GROUP BY known.provider
ORDER BY known.provider
"""
# Each range is read through the BRIN index on received_at, and no further than to the tenth event.
EVENTS_BACK_THEN = """
SELECT back.days, (
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
    found = rows(connection, PAUSES_OF_ALL, since=now - HISTORY, now=now, usual=USUAL)
    return [_of_provider(connection, row, now) for row in found]


def _of_provider(connection: Connection, heard: Mapping[str, Any], now: datetime) -> Condition:
    last_at: datetime = heard["last_at"] or now - HISTORY
    usual: timedelta | None = heard["usual"] if heard["pauses"] >= PAUSES else None
    facts = {
        "provider": heard["provider"],
        "last_at": f"{last_at:%Y-%m-%d %H:%M} UTC" if heard["last_at"] else "more than 30 days ago",
        "minutes": int((now - last_at) / timedelta(minutes=1)),
        "usual_minutes": None if usual is None else int(usual / timedelta(minutes=1)),
    }
    key, measured = f"{NAME}:{heard['provider']}", f"last event {facts['last_at']}"
    if now - last_at < SHORTEST:
        return Condition(key, failing=False, facts=facts, measured=measured)
    long = usual is not None and now - last_at > LONGER * max(usual, SHORTEST)
    unusual = long or _always_events(connection, heard["provider"], max(last_at, now - LONGEST), now)
    # What was unusual does not become usual by lasting: only an event ends it.
    return Condition(key, True if unusual else None, facts, measured)


def _always_events(connection: Connection, provider: str, start: datetime, now: datetime) -> bool:
    """Whether enough events came in the same stretch of enough of the days before, or of the weeks before."""

    def busy(days: list[int]) -> list[int]:
        found = rows(connection, EVENTS_BACK_THEN, provider=provider, start=start, now=now, days=days, enough=EVENTS)
        return [row["days"] for row in found if row["events"] >= EVENTS]

    busy_days = busy([*range(1, DAYS + 1)])
    if DAYS in busy_days and len(busy_days) >= ENOUGH_DAYS:
        return True
    return len(busy([DAYS * week for week in range(1, WEEKS + 1)])) >= ENOUGH_WEEKS


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    provider: str = facts["provider"]
    usual: int | None = facts.get("usual_minutes")
    return Words(
        headline=f"No {provider} event for {_in_words(facts['minutes'])}, which is longer than usual at this time",
        all_clear=f"Events of {provider} arrive again",
        next_step=(
            f"See whether the receiver is up and reachable from outside, and what {provider} says of its deliveries: "
            "wrong address, expired secret, endpoint switched off. On a holiday this may be nothing."
        ),
        values={
            "Last event": facts["last_at"],
            "Longest usual pause": "not known yet" if usual is None else _in_words(usual),
        },
    )


def _in_words(minutes: int) -> str:
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


RULE = Rule(NAME, look, words)
