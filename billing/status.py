"""The state of everything, for the person on duty: what the books say of queue, nights, money and alerts.

Each part is read within a time limit of its own, so that one slow table hides nothing else. What is wrong is a
`Trouble` with its remedy; `calltally status` adds the services that only answer over the network.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from billing.books import Books
from billing.errors import BillingError
from billing.figures import Reliability
from billing.messages import in_words, percent
from billing.unapplied import PARKED_LIMIT

PROBE_SECONDS = 1.0
WORKER_SILENCE = timedelta(seconds=20)
"""A worker beats every 5 s; one that missed three beats is not there."""
NIGHT_OVERDUE = timedelta(hours=27)
"""A night is due every 24 h and takes less than 3."""
NIGHT_STUCK = timedelta(hours=6)
UNAPPLIED = {"waiting", "active", "delayed"}
"""In line, or in the hands of a worker, which may hang."""
FRESH_DEATH = timedelta(hours=24)
"""A dead event is news for a day; after that it is known, and somebody's decision."""
UNSENT = timedelta(minutes=15)
"""Messages leave within a minute; Slack may be away for some."""
LISTED = 10
SEEN_HERE = ("webhook_reliability", "dead_events", "parked_events", "held_calls", "worker_paused")
"""Incidents of these kinds are troubles of another part already, with a better remedy."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong, or that somebody should look at, and what to do."""

    what: str
    fix: str
    serious: bool = True
    """Whether it makes the whole unhealthy."""


@dataclass(frozen=True)
class Facts:
    """One part: what was read, and what is wrong about it. `missing` says why nothing was read."""

    facts: dict[str, Any] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """From which point on something is wrong."""

    waiting: timedelta
    reliability: Decimal


def read_status(books: Books, limits: Limits, seconds: float = PROBE_SECONDS) -> dict[str, Facts]:
    """Workers, queue, nights, money, messages, alerts and the check of the books, each within `seconds`."""
    parts: dict[str, Callable[[], Facts]] = {
        "workers": lambda: _workers(books),
        "queue": lambda: _queue(books, limits.waiting),
        "night": lambda: _night(books, limits.reliability),
        "money": lambda: _money(books),
        "messages": lambda: _messages(books),
        "alerts": lambda: _alerts(books),
        "books": lambda: _check(books),
    }
    return {name: _within(books, seconds, name, part) for name, part in parts.items()}


def _within(books: Books, seconds: float, name: str, part: Callable[[], Facts]) -> Facts:
    try:
        with books.limited(seconds):
            return part()
    except BillingError as error:
        reason = f"took longer than {seconds:g} s" if "statement timeout" in str(error) else str(error)
        fix = "run: calltally books check" if name == "books" else "look again, and at the database's load"
        return Facts(missing=reason, troubles=[Trouble(f"{name} could not be read: {reason}", fix, serious=False)])


def _workers(books: Books) -> Facts:
    """Those that were seen lately; long gone ones are history."""
    seen = books.rows(
        "SELECT name, seen_at, extract(epoch FROM now() - seen_at)::float AS silent_seconds,"
        " seen_at > now() - CAST(:silence AS interval) AS alive FROM workers"
        " WHERE seen_at > now() - interval '1 hour' ORDER BY seen_at DESC LIMIT :listed",
        silence=WORKER_SILENCE,
        listed=LISTED,
    )
    if any(worker["alive"] for worker in seen):
        return Facts({"workers": seen}, _about_pause(books))
    return Facts(
        {"workers": seen},
        [Trouble("no worker has a heartbeat: webhooks are stored, but not applied", "run: calltally up (or worker)")],
    )


def _about_pause(books: Books) -> list[Trouble]:
    """A worker that is there, and can apply nothing."""
    pauses = books.rows("SELECT facts, opened_at FROM incidents WHERE key = 'worker_paused' AND closed_at IS NULL")
    return [
        Trouble(
            f"a worker pauses since {pause['opened_at']:%Y-%m-%d %H:%M} UTC: {pause['facts']['trouble']}",
            "run: calltally migrate, by the version that runs; if the database is read-only, name the primary",
        )
        for pause in pauses
    ]


def _queue(books: Books, limit: timedelta) -> Facts:
    providers = books.rows(
        "SELECT provider, state, count(*) AS events, min(received_at) AS oldest_received_at,"
        " extract(epoch FROM now() - min(received_at))::float AS oldest_seconds,"
        " count(*) FILTER (WHERE state = 'dead' AND finished_at > now() - CAST(:fresh AS interval)) AS fresh"
        " FROM events WHERE state IN ('waiting', 'active', 'delayed', 'parked', 'dead')"
        " GROUP BY provider, state ORDER BY provider, state",
        fresh=FRESH_DEATH,
    )
    troubles = []
    for row in providers:
        name = (
            f"1 event of {row['provider']} is"
            if row["events"] == 1
            else f"{row['events']} events of {row['provider']} are"
        )
        if row["state"] in UNAPPLIED and row["oldest_seconds"] > limit.total_seconds():
            late = f"the oldest {row['state']} event of {row['provider']} is {in_words(row['oldest_seconds'])} old"
            troubles.append(Trouble(late, "see the worker's log; run: calltally up (or worker)"))
        if row["state"] == "dead":
            fix = f"run: calltally events list --state dead --provider {row['provider']}"
            troubles.append(Trouble(f"{name} dead, {row['fresh']} since yesterday", fix, serious=row["fresh"] > 0))
        if row["state"] == "parked":
            fix = f"run: calltally events list --state parked --provider {row['provider']}, and add what it lacks"
            parked = f"{name} parked, the oldest for {in_words(row['oldest_seconds'])}"
            troubles.append(Trouble(parked, fix, serious=row["oldest_seconds"] > PARKED_LIMIT.total_seconds()))
    return Facts({"states": [{key: row[key] for key in row if key != "fresh"} for row in providers]}, troubles)


def _night(books: Books, threshold: Decimal) -> Facts:
    runs = books.rows(
        "SELECT id, state, window_from, window_to, started_at, finished_at, ended_calls, ended_by_webhook,"
        " reliability_ratio, recovered_calls, recovered_micros, outstanding_micros, money, cause, error,"
        " now() - coalesce(finished_at, started_at) AS age FROM reconciliation_runs"
        " WHERE kind = 'night' AND NOT dry_run AND organization_id IS NULL ORDER BY started_at DESC LIMIT 50"
    )
    newest = next((place for place, run in enumerate(runs) if run["state"] == "completed"), len(runs))
    last = runs[newest] if newest < len(runs) else None
    failed = [run for run in runs[:newest] if run["state"] == "failed"]
    running = [run for run in runs[:newest] if run["state"] == "running"]
    troubles = [Trouble(f"the last night failed: {run['error']}", _again(run)) for run in failed[:1]]
    troubles += [
        Trouble(f"a night has been running since {run['started_at']:%Y-%m-%d %H:%M} UTC", "see its run in Prefect")
        for run in running
        if run["age"] > NIGHT_STUCK
    ]
    troubles += _about_last(last, threshold) if last else _about_none(books)
    return Facts({"last": last and _with_interval(last), "failed": failed, "running": running}, troubles)


def _about_none(books: Books) -> list[Trouble]:
    calls = books.value("SELECT EXISTS (SELECT FROM calls)")
    return [Trouble("no night was ever compared", "run: calltally reconcile", serious=bool(calls))]


def _about_last(run: dict[str, Any], threshold: Decimal) -> list[Trouble]:
    troubles = []
    if run["age"] > NIGHT_OVERDUE:
        what = (
            f"the last night was compared {in_words(run['age'].total_seconds())} ago; Vapi forgets calls after days"
        )
        troubles.append(Trouble(what, "run: calltally reconcile, and see why 03:00 UTC did not (calltally doctor)"))
    reliability = Reliability(run["ended_by_webhook"] or 0, run["ended_calls"] or 0)
    if reliability.is_below(threshold):
        what = f"webhook reliability was {percent(reliability.ratio)}, below {percent(threshold)}"
        troubles.append(Trouble(what, f"run: calltally doctor. Likely cause: {run['cause'] or 'not known'}"))
    return troubles


def _again(run: dict[str, Any]) -> str:
    window = f"--from {run['window_from']:%Y-%m-%dT%H:%M:%S} --to {run['window_to']:%Y-%m-%dT%H:%M:%S}"
    return f"run it again: calltally reconcile {window}"


def _with_interval(run: dict[str, Any]) -> dict[str, Any]:
    interval = Reliability(run["ended_by_webhook"] or 0, run["ended_calls"] or 0).interval
    low, high = interval or (None, None)
    return {**run, "age": run["age"].total_seconds(), "reliability_low": low, "reliability_high": high}


def _money(books: Books) -> Facts:
    sums = books.rows(
        "SELECT currency, count(*) AS organizations, sum(balance_micros)::bigint AS balance_micros,"
        " sum(outstanding_micros)::bigint AS outstanding_micros, count(*) FILTER (WHERE needs_recharge) AS recharge"
        " FROM wallet_balances GROUP BY currency ORDER BY currency"
    )
    tight = books.rows(
        "SELECT name, balances.currency, balance_micros, debt_limit_micros, outstanding_micros"
        " FROM wallet_balances AS balances JOIN organizations ON organizations.id = organization_id"
        " WHERE balances.state IN ('at_limit', 'near_limit')"
        " ORDER BY outstanding_micros DESC, balance_micros LIMIT :listed",
        listed=LISTED,
    )
    recharge = books.rows(
        "SELECT name, balances.currency, balance_micros FROM wallet_balances AS balances"
        " JOIN organizations ON organizations.id = organization_id WHERE needs_recharge"
        " ORDER BY balance_micros LIMIT :listed",
        listed=LISTED,
    )
    held = books.rows(
        "SELECT held AS why, count(*) AS calls, min(first_seen_at) < now() - CAST(:limit AS interval) AS old"
        " FROM calls WHERE held IS NOT NULL GROUP BY held ORDER BY count(*) DESC, held LIMIT :listed",
        limit=PARKED_LIMIT,
        listed=LISTED,
    )
    troubles = [
        Trouble(f"{row['calls']} held, not billed: {row['why']}", "run: calltally call held", serious=row["old"])
        for row in held
    ]
    return Facts({"currencies": sums, "near_limit": tight, "need_recharge": recharge, "held_calls": held}, troubles)


def _messages(books: Books) -> Facts:
    """Of the last 24 hours; what is bad about them is an incident."""
    found = books.rows(
        "SELECT count(*) AS told, count(*) FILTER (WHERE sms_is_final(status)) AS ended,"
        " count(*) FILTER (WHERE status IN ('failed', 'undelivered')) AS failed,"
        " count(*) FILTER (WHERE carrier_accepted AND num_segments IS NULL AND NOT sms_is_settled(sms_messages))"
        " AS unmeasured, count(*) FILTER (WHERE organization_id IS NULL) AS unattributed"
        " FROM sms_messages WHERE first_seen_at > now() - interval '24 hours'"
    )
    return Facts(found[0])


def _alerts(books: Books) -> Facts:
    alerts = books.rows("SELECT key, opened_at, sent_at, outcome FROM alerts ORDER BY id DESC LIMIT 5")
    if not books.value("SELECT to_regclass('incidents') IS NOT NULL"):
        return Facts({"incidents": [], "alerts": alerts})
    incidents = books.rows(
        "SELECT key, severity, opened_at, last_seen_at, facts FROM incidents WHERE closed_at IS NULL"
        " ORDER BY opened_at DESC LIMIT :listed",
        listed=LISTED,
    )
    troubles = [
        Trouble(
            f"incident {incident['key']}, open since {incident['opened_at']:%Y-%m-%d %H:%M} UTC",
            "it closes by itself once it is over; Slack has the details",
            serious=incident["severity"] != "info",
        )
        for incident in incidents
        if not incident["key"].startswith(SEEN_HERE)
    ]
    troubles += _about_unsent(books)
    return Facts({"incidents": incidents, "alerts": alerts}, troubles)


def _about_unsent(books: Books) -> list[Trouble]:
    """Messages that should have gone out: whatever else is wrong, nobody hears of it. Quiet hours hold some back."""
    [waiting] = books.rows(
        "SELECT count(*) AS messages, min(opened_at) AS since, max(outcome) AS outcome FROM alerts"
        " WHERE sent_at IS NULL AND withdrawn_at IS NULL AND opened_at < now() - CAST(:unsent AS interval)"
        " AND NOT starts_with(coalesce(outcome, ''), 'held back')",
        unsent=UNSENT,
    )
    if not waiting["messages"]:
        return []
    what = (
        f"messages for Slack wait since {waiting['since']:%Y-%m-%d %H:%M} UTC ({waiting['messages']}): "
        f"{waiting['outcome'] or 'nobody has tried to send them'}"
    )
    if "SLACK_WEBHOOK_URL is not set" in (waiting["outcome"] or ""):  # as billing.slack says it
        return [Trouble(what, "set SLACK_WEBHOOK_URL, and restart the worker", serious=False)]
    return [Trouble(what, "see docs/runbook.md, section alerts_unsent: a webhook that works, or a worker")]


def _check(books: Books) -> Facts:
    broken = books.rows("SELECT * FROM check_books()")
    troubles = [
        Trouble(
            f"the books are wrong: {name}", f"run: calltally books check; sql/checks/{name}.sql says what it means"
        )
        for name in dict.fromkeys(row["name"] for row in broken)
    ]
    return Facts({"broken": broken}, troubles)
