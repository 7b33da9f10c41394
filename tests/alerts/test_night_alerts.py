"""Which nights raise the alarm, which end it, and which say nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine

from billing.alert_messages import write_message
from billing.alerts import claim_alerts, note_outcome, outcome_of
from billing.figures import Completeness, Night, Reliability, Totals, Window
from billing.night_alerts import note_night
from billing.runs import note_alert
from billing.settings import Settings
from billing.slack import send_waiting
from calltally.sandbox.faults import text_fault
from calltally.sandbox.server import RunningSandbox
from tests.books import Books
from tests.night.test_messages import night

START = datetime(2026, 11, 3, tzinfo=UTC)


def told(engine: Engine, night: Night, min_calls: int = 10) -> str | None:
    """What the night adds to the outbox."""
    noted = note_night(engine, night, threshold=Decimal("0.95"), min_calls=min_calls)
    return noted.enqueued if noted else None


def of_day(day: int, by_webhook: int, ended: int = 100, **more: Any) -> Night:
    """The night of a day."""
    start = START + timedelta(days=day)
    window = Window(start, start + timedelta(days=1), start)
    facts = {"as_of": window.end + timedelta(hours=1), "run_id": uuid4(), **more}
    return night(reliability=Reliability(by_webhook, ended), window=window, **facts)


def completed(books: Books, night: Night) -> Night:
    """Let the run of that night be on record."""
    books.value(
        "INSERT INTO reconciliation_runs (id, state, kind, window_from, window_to, as_of, ended_calls, dry_run)"
        " VALUES (:id, 'completed', :kind, :start, :end, :as_of, :ended_calls, :dry_run) RETURNING 1",
        id=night.run_id,
        kind=night.kind,
        as_of=night.as_of,
        ended_calls=night.reliability.ended,
        start=night.window.start,
        end=night.window.end,
        dry_run=night.dry_run,
    )
    return night


def test_bad_nights_are_one_incident_that_a_good_night_ends(engine: Engine) -> None:
    """Exactly at the threshold is good."""
    looks = [told(engine, of_day(day, by_webhook)) for day, by_webhook in enumerate([99, 94, 90, 95, 96, 0])]

    assert looks == [None, "raised", None, "cleared", None, "raised"]


def test_night_of_too_few_calls_changes_nothing(engine: Engine) -> None:
    """It neither raises the alarm nor ends it."""
    looks = [told(engine, of_day(0, 0, 9)), told(engine, of_day(1, 0, 0), min_calls=1)]
    looks.append(told(engine, of_day(2, 0, 10)))
    looks += [told(engine, of_day(3, 9, 9)), told(engine, of_day(4, 0, 0)), told(engine, of_day(5, 10, 10))]

    assert looks == [None, None, "raised", None, None, "cleared"]


def test_rehearsals_and_other_kinds_of_runs_tell_nobody(engine: Engine) -> None:
    """Whoever started them looks at them."""
    assert told(engine, of_day(0, 50, dry_run=True)) is None
    assert told(engine, of_day(0, 50, kind="recent")) is None
    assert told(engine, of_day(0, 50, kind="backfill")) is None


def test_night_of_the_past_says_nothing_about_now(engine: Engine, books: Books) -> None:
    """Once a later window was compared; rehearsals of it do not count, and the same window does."""
    told(engine, completed(books, of_day(3, 50)))
    completed(books, of_day(9, 50, dry_run=True))

    assert told(engine, completed(books, of_day(1, 100))) is None
    assert told(engine, completed(books, of_day(3, 100))) == "cleared"


def test_incomplete_list_raises_the_alarm_and_never_ends_it(engine: Engine) -> None:
    """The calls that it lacks may be the lost ones; if the totals are set not to matter, they do not."""
    window = of_day(0, 0).window
    part = Completeness(window.start, window.end, Totals(10, 0), Totals(500, 0), "incomplete", held=True)
    nights = [
        of_day(0, 100, completeness=[part]),
        of_day(1, 50, completeness=[part]),
        of_day(2, 100, completeness=[part]),
        of_day(3, 100, completeness=[replace(part, held=False)]),
    ]

    assert [told(engine, night) for night in nights] == [None, "raised", None, "cleared"]


def test_window_that_lay_in_the_future_overtakes_only_what_it_could_see(engine: Engine, books: Books) -> None:
    """A run that was asked for months ahead saw no more than there was; the nights after it speak."""
    seen = of_day(2, 100)
    ahead = Window(seen.window.start, seen.window.end + timedelta(days=300), seen.window.listed_from)
    completed(books, replace(seen, window=ahead))

    assert told(engine, completed(books, of_day(1, 50))) is None
    assert told(engine, completed(books, of_day(3, 50))) == "raised"


def test_later_window_of_too_few_calls_overtakes_nothing(engine: Engine, books: Books) -> None:
    """It says nothing itself, so a night that does is not silenced by it."""
    completed(books, of_day(3, 0, 9))
    completed(books, of_day(4, 0, 0))

    assert told(engine, completed(books, of_day(1, 50))) == "raised"


def test_night_of_a_single_organization_tells_nobody(engine: Engine, books: Books) -> None:
    """Somebody started it by hand and looks at it; a good one of one says nothing about the others."""
    acme: dict[str, Any] = {"organization": "Acme", "organization_id": uuid4()}

    assert told(engine, of_day(0, 50, **acme)) is None
    assert told(engine, of_day(0, 50)) == "raised"
    assert told(engine, of_day(0, 100, **acme)) is None
    assert told(engine, of_day(0, 50, **acme)) is None
    assert [row["key"] for row in books.rows("SELECT key FROM incidents")] == ["webhook_reliability"]


def test_run_says_what_came_of_its_message(
    engine: Engine, sandbox: RunningSandbox, configure: Callable[..., Settings]
) -> None:
    """Not needed, sent, told already, or why not."""

    def outcome(night: Night, **changes: Any) -> str:
        noted = note_night(engine, night, threshold=Decimal("0.95"), min_calls=1)
        send_waiting(engine, configure(**changes), write_message)
        return outcome_of(engine, noted)

    outcomes = [outcome(of_day(day, by_webhook)) for day, by_webhook in enumerate([100, 50, 50, 100])]
    outcomes.append(outcome(of_day(4, 50), slack_webhook_url=None))
    outcomes.append(outcome(of_day(5, 50)))

    assert outcomes == [
        *("not needed", "sent", "told already", "sent"),
        "could not alert: SLACK_WEBHOOK_URL is not set",
        "sent",
    ]
    assert len(sandbox.slack.messages) == 3


def alert_of(books: Books, night: Night) -> tuple[str, list[str]]:
    """What a run says of its alert, and the problems among its findings."""
    [run] = books.rows("SELECT alert FROM reconciliation_runs WHERE id = :id", id=night.run_id)
    found = books.rows("SELECT detail FROM findings WHERE run_id = :id AND kind = 'alert'", id=night.run_id)
    return run["alert"], [finding["detail"]["problem"] for finding in found]


def test_message_that_is_refused_after_quiet_hours_is_a_finding_of_its_night(
    engine: Engine, books: Books, sandbox: RunningSandbox, configure: Callable[..., Settings]
) -> None:
    """The run learns of it when it happens, once however often it is tried, and of the end of it too."""
    bad = completed(books, of_day(0, 50))
    told(engine, bad)
    send_waiting(engine, configure(quiet_hours="22:00-06:00"), write_message, START.replace(hour=23))
    held = alert_of(books, bad)
    sandbox.slack.faults.add(text_fault(404, "no_service"))
    send_waiting(engine, configure(), write_message)
    refused = alert_of(books, bad)
    send_waiting(engine, configure(slack_webhook_url=None), write_message)
    books.value("SELECT note_alert_outcome(id, NULL, 'sent', true) FROM alerts")

    assert held == ("held back until 2026-11-04 06:00 UTC by quiet hours", [])
    assert refused == ("could not alert: Slack answered 404 no_service", [refused[0]])
    assert alert_of(books, bad) == ("sent", [refused[0]])


def test_message_that_another_sender_holds_is_noted_on_its_night(
    engine: Engine, books: Books, sandbox: RunningSandbox, configure: Callable[..., Settings]
) -> None:
    """A worker claimed it before the night could send it: what comes of it there is the night's all the same."""
    bad = completed(books, of_day(0, 50))
    noted = note_night(engine, bad, threshold=Decimal("0.95"), min_calls=1)
    [held] = claim_alerts(engine)
    send_waiting(engine, configure(), write_message)
    meanwhile = note_alert(engine, bad.run_id, outcome_of(engine, noted))
    note_outcome(engine, held, "could not alert: Slack answered 403 action_prohibited", sent=False)

    assert meanwhile == "waits for a sender"
    assert sandbox.slack.messages == []
    assert alert_of(books, bad) == (
        "could not alert: Slack answered 403 action_prohibited",
        ["could not alert: Slack answered 403 action_prohibited"],
    )


def test_night_never_overrules_what_the_outbox_noted(engine: Engine, books: Books) -> None:
    """The sender is done between the night's look at the outbox and its note on the run."""
    bad = completed(books, of_day(0, 50))
    told(engine, bad)
    [held] = claim_alerts(engine)
    note_outcome(engine, held, "sent", sent=True)

    assert note_alert(engine, bad.run_id, "waits for a sender") == "sent"
    assert alert_of(books, bad) == ("sent", [])
