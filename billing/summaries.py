"""What people are told although nothing is wrong: how the week was, and that the channel works."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from billing.alerts import enqueue_message
from billing.database import rows, transaction
from billing.rules.rule import EXAMPLES
from billing.settings import Settings

AT = time(8, tzinfo=UTC)
LATE = timedelta(hours=24)
"""What could not be written for so long is news no more."""

CALLS = """
SELECT
    count(*) AS calls,
    count(*) FILTER (WHERE started_at IS NOT NULL) AS ended,
    count(*) FILTER (WHERE started_at IS NOT NULL AND NOT reconciled) AS by_webhook,
    count(*) FILTER (WHERE reconciled AND webhook_at IS DISTINCT FROM first_seen_at) AS recovered,
    count(*) FILTER (WHERE EXISTS (SELECT FROM charges WHERE idempotency_key = 'call:' || calls.id)) AS billed
FROM calls
WHERE created_at >= :start - interval '12 hours' AND ended_at >= :start AND ended_at < :end
"""
MONEY = """
SELECT
    wallets.currency,
    coalesce(sum(charged.micros), 0)::bigint AS charged_micros,
    coalesce(sum(charged.outstanding_micros), 0)::bigint AS outstanding_micros,
    coalesce(sum(paid.micros), 0)::bigint AS topups_micros
FROM wallets
LEFT JOIN (
    SELECT
        organization_id,
        sum(amount_micros) FILTER (WHERE state = 'settled') AS micros,
        sum(amount_micros) FILTER (WHERE state = 'outstanding') AS outstanding_micros
    FROM charges
    WHERE event_at >= :start AND event_at < :end AND kind <> 'correction'
    GROUP BY organization_id
) AS charged USING (organization_id)
LEFT JOIN (
    SELECT organization_id, sum(amount_micros) AS micros
    FROM transfers
    WHERE kind = 'topup' AND event_at >= :start AND event_at < :end
    GROUP BY organization_id
) AS paid USING (organization_id)
GROUP BY wallets.currency
ORDER BY wallets.currency
"""
INCIDENTS = """
SELECT key, severity, times_seen, closed_at IS NULL AS open, count(*) OVER () AS incidents
FROM incidents
WHERE opened_at < :end AND coalesce(closed_at, 'infinity') >= :start
ORDER BY severity = 'critical' DESC, opened_at DESC
LIMIT :examples
"""


def enqueue_due(engine: Engine, settings: Settings, now: datetime) -> list[str]:
    """Write what is due and not written yet; the keys of what this wrote."""
    due = []
    today = now.astimezone(UTC).date()
    monday = datetime.combine(today - timedelta(days=today.weekday()), AT)
    if settings.weekly_summary and monday <= now < monday + LATE:
        end = monday.replace(hour=0)
        key = f"weekly_summary:{end:%G-W%V}"
        if enqueue_message(engine, "summary", key, week_facts(engine, end - timedelta(days=7), end)):
            due.append(key)
    if settings.daily_heartbeat and settings.slack_webhook_url is not None and now >= datetime.combine(today, AT):
        key = f"heartbeat:{today}"
        if enqueue_message(engine, "heartbeat", key, heartbeat_facts(engine, now)):
            due.append(key)
    return due


def week_facts(engine: Engine, start: datetime, end: datetime) -> dict[str, Any]:
    """Calls that ended in `start <= t < end`, money of that time in micros by currency, and incidents."""
    with transaction(engine) as connection:
        [calls] = rows(connection, CALLS, start=start, end=end)
        return {
            "week": f"{start:%Y-%m-%d} to {end - timedelta(days=1):%Y-%m-%d}",
            **calls,
            "money": rows(connection, MONEY, start=start, end=end),
            **_incidents(connection, start, end),
        }


def heartbeat_facts(engine: Engine, now: datetime) -> dict[str, Any]:
    """The incidents that are open."""
    with transaction(engine) as connection:
        found = _incidents(connection, now, now)
    return {**found, "day": f"{now:%Y-%m-%d}"}


def _incidents(connection: Connection, start: datetime, end: datetime) -> dict[str, Any]:
    found = rows(connection, INCIDENTS, start=start, end=end, examples=EXAMPLES)
    return {
        "incidents": found[0]["incidents"] if found else 0,
        "first": [{name: row[name] for name in ("key", "severity", "times_seen", "open")} for row in found],
    }
