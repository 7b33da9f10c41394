"""Incidents open once, are told once, and end with an all-clear; their messages are sent by one sender at a time."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine

from billing.alerts import Alert, claim_alerts, enqueue_message, hold_alerts, note_condition, note_outcome
from tests.books import Books, Row

T = TypeVar("T")
DAY = timedelta(days=1)


@pytest.fixture
def engine(books: Books) -> Engine:
    """The application's connections to a database without incidents."""
    return books.engine


def enqueued(engine: Engine, failing: bool, facts: Row | None = None, **more: Any) -> str | None:
    """What a look at the condition `k` adds to the outbox."""
    noted = note_condition(engine, "k", failing, facts or {}, **more)
    return noted.enqueued if noted else None


def send(engine: Engine) -> list[tuple[str, Any]]:
    """Send all that is due: kind and facts of each message."""
    sent: list[tuple[str, Any]] = []
    while found := claim_alerts(engine):
        sent.append((found[0].kind, found[0].facts))
        note_outcome(engine, found[0], "sent", sent=True)
    return sent


def pass_time(owner: Books, time: timedelta) -> None:
    """Let all alerts have been written, sent and claimed so much earlier."""
    owner.value(
        "UPDATE alerts SET opened_at = opened_at - passed, sent_at = sent_at - passed, due_at = due_at - passed"
        " FROM CAST(:time AS interval) AS passed RETURNING 1",
        time=time,
    )


def together(work: Callable[[], T], workers: int = 8) -> list[T]:
    """The results of so many threads that begin at the same moment."""
    barrier = Barrier(workers)

    def begin(_: int) -> T:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(begin, range(workers)))


def test_condition_that_fails_again_is_told_once(engine: Engine, books: Books) -> None:
    """The incident counts, keeps the newest facts, and so does the message that still waits."""
    first = note_condition(engine, "k", True, {"lost": 1})
    again = note_condition(engine, "k", True, {"lost": 2})

    assert first is not None
    assert again is not None
    assert (first.incident, first.since) == (again.incident, again.since)
    assert [(noted.enqueued, noted.times) for noted in (first, again)] == [("raised", 1), (None, 2)]
    assert books.rows("SELECT facts, times_seen, closed_at FROM incidents") == [
        {"facts": {"lost": 2}, "times_seen": 2, "closed_at": None}
    ]
    assert send(engine) == [("raised", {"lost": 2})]


def test_condition_that_is_well_ends_its_incident_with_one_all_clear(engine: Engine, books: Books) -> None:
    """Being well is nothing to speak of otherwise, and the next failure is another incident."""
    looks = [enqueued(engine, failing) for failing in (False, True)]
    told = send(engine)
    looks += [enqueued(engine, failing) for failing in (False, False)]
    told += send(engine)
    looks.append(enqueued(engine, True))

    assert looks == [None, "raised", "cleared", None, "raised"]
    assert [kind for kind, _ in told] == ["raised", "cleared"]
    assert books.rows("SELECT key, closed_at IS NULL AS open FROM incidents ORDER BY id") == [
        {"key": "k", "open": False},
        {"key": "k", "open": True},
    ]


def test_condition_that_lasts_is_reminded_of_once_the_last_message_is_old(engine: Engine, owner: Books) -> None:
    """Not before, not while a message still waits, and never if asked so."""
    looks = [enqueued(engine, True)]
    pass_time(owner, DAY)
    looks.append(enqueued(engine, True))
    told = send(engine)
    pass_time(owner, DAY - timedelta(minutes=1))
    looks.append(enqueued(engine, True))
    pass_time(owner, timedelta(minutes=2))
    looks += [enqueued(engine, True, remind_after=None), enqueued(engine, True, {"lost": 9}), enqueued(engine, True)]
    told += send(engine)

    assert looks == ["raised", None, None, None, "reminder", None]
    assert [kind for kind, _ in told] == ["raised", "reminder"]


def test_condition_that_becomes_critical_is_told_at_once(engine: Engine) -> None:
    """Once; that it is less bad again waits for the daily reminder."""
    looks = []
    for severity in ("warning", "critical", "critical", "warning"):
        looks.append(enqueued(engine, True, severity=severity))
        send(engine)

    assert looks == ["raised", "reminder", None, None]


def test_incident_that_ends_before_anybody_was_told_is_one_message(engine: Engine) -> None:
    """The alarm that still waits becomes the all-clear, which knows that it is the first message."""
    enqueued(engine, True, {"lost": 3})
    ended = enqueued(engine, False, {"lost": 0})
    [alert] = claim_alerts(engine, limit=5)

    assert ended == "cleared"
    assert (alert.kind, alert.facts, alert.told) == ("cleared", {"lost": 0}, False)
    assert alert.since is not None
    assert alert.until is not None


def test_all_clear_never_overtakes_its_alarm(engine: Engine, owner: Books) -> None:
    """It waits while somebody sends the alarm, and while the alarm waits for its next attempt."""
    enqueued(engine, True)
    [alarm] = claim_alerts(engine)
    enqueued(engine, False)
    offers = [claim_alerts(engine)]
    note_outcome(engine, alarm, "could not alert", sent=False)
    offers.append(claim_alerts(engine))
    pass_time(owner, timedelta(hours=1))
    offers.append(claim_alerts(engine, limit=5))
    note_outcome(engine, offers[-1][0], "sent", sent=True)
    offers.append(claim_alerts(engine, limit=5))

    assert [[alert.kind for alert in offer] for offer in offers] == [[], [], ["raised"], ["cleared"]]
    assert offers[-1][0].told


def test_many_who_see_the_same_failure_open_one_incident(engine: Engine, books: Books) -> None:
    """And each look is counted."""
    looks = together(lambda: [enqueued(engine, True) for _ in range(5)])

    assert Counter(look for some in looks for look in some) == {None: 39, "raised": 1}
    assert books.rows("SELECT times_seen FROM incidents") == [{"times_seen": 40}]
    assert books.value("SELECT count(*) FROM alerts") == 1


def test_many_senders_at_once_claim_each_message_once(engine: Engine) -> None:
    """However many processes send, people read each message once."""
    for number in range(20):
        note_condition(engine, f"k{number}", True, {})
    claims = together(lambda: [alert.id for _ in range(10) for alert in claim_alerts(engine)])
    claimed = [alert_id for some in claims for alert_id in some]
    claimed += [
        alert.id for alert in claim_alerts(engine, limit=20)
    ]  # two who aim at one message may both go without

    assert len(claimed) == len(set(claimed)) == 20


def test_message_of_a_sender_that_died_is_sent_by_the_next(engine: Engine, owner: Books) -> None:
    """Once its lease has ended, and not before. What it says after all counts only if it did send."""
    enqueued(engine, True)
    [dead] = claim_alerts(engine, lease=timedelta(minutes=5))
    early = claim_alerts(engine)
    pass_time(owner, timedelta(minutes=6))
    [taken] = claim_alerts(engine)
    note_outcome(engine, dead, "could not alert", sent=False)
    still_held = claim_alerts(engine)

    assert early == still_held == []
    assert (taken.id, taken.claim_token != dead.claim_token) == (dead.id, True)
    note_outcome(engine, dead, "sent", sent=True)
    note_outcome(engine, taken, "could not alert", sent=False)
    assert owner.rows("SELECT outcome, sent_at IS NULL AS waits FROM alerts") == [{"outcome": "sent", "waits": False}]


def test_message_that_fails_is_tried_later_and_later(engine: Engine, owner: Books) -> None:
    """After 1, 2, 4 minutes and so on, at most an hour; why it failed is kept."""
    enqueued(engine, True)
    delays = []
    for _ in range(8):
        [alert] = claim_alerts(engine)
        note_outcome(engine, alert, "could not alert: why", sent=False)
        found = owner.rows(
            "SELECT round(extract(epoch FROM due_at - now()) / 60)::int AS minutes, outcome FROM alerts"
        )
        delays.append(found[0]["minutes"])
        pass_time(owner, timedelta(hours=2))

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert found[0]["outcome"] == "could not alert: why"


def test_messages_are_held_with_the_reason(engine: Engine, books: Books) -> None:
    """All that wait, or all but the critical ones; not one that somebody is sending."""
    note_condition(engine, "sending", True, {})
    claim_alerts(engine)
    note_condition(engine, "small", True, {})
    note_condition(engine, "urgent", True, {}, "critical")
    held = hold_alerts(engine, "held back", except_critical=True)
    critical = claim_alerts(engine, limit=5, only_critical=True)

    assert [(told.key, told.outcome, told.failed) for told in held] == [("small", "held back", False)]
    assert [alert.key for alert in critical] == ["urgent"]
    assert [told.key for told in hold_alerts(engine, "could not alert: no")] == ["small"]
    assert books.rows("SELECT key, outcome FROM alerts ORDER BY id") == [
        {"key": "sending", "outcome": None},
        {"key": "small", "outcome": "could not alert: no"},
        {"key": "urgent", "outcome": None},
    ]


def test_message_of_last_week_is_withdrawn_unless_it_is_still_true(engine: Engine, owner: Books) -> None:
    """Whoever sets up Slack late hears of what is wrong now, and not of all that ever was."""
    note_condition(engine, "over", True, {})
    note_condition(engine, "over", False, {})
    note_condition(engine, "lasting", True, {})
    enqueue_message(engine, "summary", "weekly_summary:1", {})
    pass_time(owner, timedelta(days=8))
    offered: Sequence[Alert] = claim_alerts(engine, limit=5)

    assert [(alert.key, alert.kind) for alert in offered] == [("lasting", "raised")]
    assert owner.value("SELECT count(*) FROM alerts WHERE withdrawn_at IS NOT NULL") == 2


def test_summary_is_written_once_per_key(engine: Engine) -> None:
    """However many ask for it at once, and after it was sent as well."""
    ids = together(lambda: enqueue_message(engine, "summary", "weekly_summary:1", {"calls": 3}))
    told = send(engine)

    assert len(ids) - ids.count(None) == 1
    assert told == [("summary", {"calls": 3})]
    assert enqueue_message(engine, "summary", "weekly_summary:1", {}) is None
    assert enqueue_message(engine, "summary", "weekly_summary:2", {}) is not None
