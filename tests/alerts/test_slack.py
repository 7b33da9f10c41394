"""Messages reach Slack over HTTP in spite of everything, and what came of each is kept."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine

from billing.alerts import Alert, Told, claim_alerts, note_condition
from billing.settings import Settings
from billing.slack import NOT_CONFIGURED, send_waiting
from calltally.sandbox.faults import Fault, broken_connection, html_fault, text_fault
from calltally.sandbox.server import RunningSandbox
from tests.books import Books

Configure = Callable[..., Settings]


def write(alert: Alert) -> dict[str, Any]:
    """A message of its key alone."""
    if alert.key == "unwritable":
        raise KeyError("facts")
    return {"text": "" if alert.key == "empty" else alert.key}


def outcomes(told: list[Told]) -> dict[str, str]:
    """What came of each message, by key."""
    return {one.key: one.outcome for one in told}


def texts(sandbox: RunningSandbox) -> list[str]:
    """The messages in Slack."""
    return [message["text"] for message in sandbox.slack.messages]


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        [],
        [text_fault(429, "rate_limited", retry_after_seconds=0)],
        [text_fault(500, "rollup_error"), html_fault(502)],
    ],
    ids=["nothing", "rate limit", "server errors"],
)
def test_what_passes_in_a_moment_delays_a_message(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, faults: list[Fault]
) -> None:
    """It is sent in the end, once."""
    for fault in faults:
        sandbox.slack.faults.add(fault)
    note_condition(engine, "k", True, {})
    told = send_waiting(engine, configure(), write)

    assert outcomes(told) == {"k": "sent"}
    assert texts(sandbox) == ["k"]
    assert len(sandbox.slack.faults) == 0


def test_message_in_doubt_is_not_repeated(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, owner: Books
) -> None:
    """Slack took it and gave no answer: it may have posted it, which is what is noted; the others wait a moment."""
    sandbox.slack.faults.add(broken_connection())
    for key in ("doubtful", "k"):
        note_condition(engine, key, True, {})
    told = send_waiting(engine, configure(), write)
    owner.value("UPDATE alerts SET due_at = due_at - interval '1 day' RETURNING 1")
    later = send_waiting(engine, configure(), write)

    # The kernel decides how the end of a connection is told: by its end, or by a reset.
    assert re.sub("IncompleteRead|ConnectionResetError", "it broke", str(outcomes(told))) == str(
        {"doubtful": "possibly sent: Slack gave no answer (it broke)", "k": "could not alert: it broke"}
    )
    assert [one.failed for one in told] == [False, True]
    assert outcomes(later) == {"k": "sent"}


def test_channel_that_never_answers_loses_no_more_than_one_message(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, owner: Books
) -> None:
    """The first message in doubt counts as sent; those after it wait until the channel answers again."""
    sandbox.slack.faults.add(broken_connection(), times=3)
    for key in ("first", "second", "third"):
        note_condition(engine, key, True, {})
    for _ in range(3):
        send_waiting(engine, configure(), write)
        owner.value("UPDATE alerts SET due_at = due_at - interval '1 day' RETURNING 1")
    posted = len(sandbox.slack.messages)
    told = send_waiting(engine, configure(), write)

    assert outcomes(told) == {"second": "sent", "third": "sent"}
    assert texts(sandbox)[posted:] == ["second", "third"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (text_fault(500, "rollup_error"), "could not alert: Slack answered 500 rollup_error"),
        (
            text_fault(429, "rate_limited", retry_after_seconds=3600),
            "could not alert: Slack answered 429 rate_limited",
        ),
        (text_fault(404, "no_service"), "could not alert: Slack answered 404 no_service"),
    ],
    ids=["down", "asks to wait for an hour", "disconnected"],
)
def test_what_does_not_pass_leaves_all_messages_in_the_outbox(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, books: Books, fault: Fault, outcome: str
) -> None:
    """One message is tried, the others share its reason, and all are sent when Slack is back."""
    sandbox.slack.faults.add(fault, times=3)
    for key in ("first", "second", "third"):
        note_condition(engine, key, True, {})
    failed = send_waiting(engine, configure(), write)
    kept = {row["key"]: row["outcome"] for row in books.rows("SELECT key, outcome FROM alerts")}
    sandbox.slack.faults.clear()
    told = send_waiting(engine, configure(), write)

    assert outcomes(failed) == kept == dict.fromkeys(["first", "second", "third"], outcome)
    assert all(one.failed for one in failed)
    assert outcomes(told) == {"second": "sent", "third": "sent"}  # the first has its turn in a minute


@pytest.mark.slow
def test_nobody_at_the_address_is_noted(engine: Engine, configure: Configure) -> None:
    """A refused connection fails nothing."""
    note_condition(engine, "k", True, {})
    told = send_waiting(engine, configure(slack_webhook_url="http://127.0.0.1:9/services/x"), write)

    assert outcomes(told) == {"k": "could not alert: URLError"}


@pytest.mark.parametrize(
    ("key", "outcome"),
    [
        ("empty", "could not alert: Slack answered 400 invalid_payload"),
        ("unwritable", "could not alert: KeyError while writing it"),
    ],
)
def test_message_that_is_broken_keeps_no_other_back(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, key: str, outcome: str
) -> None:
    """A defect in one kind of message is no reason to be silent about the rest."""
    note_condition(engine, key, True, {})
    note_condition(engine, "k", True, {})
    told = send_waiting(engine, configure(), write)

    assert outcomes(told) == {key: outcome, "k": "sent"}
    assert texts(sandbox) == ["k"]


def test_without_slack_messages_are_kept_and_do_not_pile_up(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, books: Books
) -> None:
    """However often a condition is seen: one message, which is sent as soon as there is somewhere to send it."""
    for _ in range(3):
        note_condition(engine, "k", True, {}, remind_after=timedelta(0))
        told = send_waiting(engine, configure(slack_webhook_url=None), write)
    kept = books.rows("SELECT outcome FROM alerts")
    send_waiting(engine, configure(), write)

    assert [(one.outcome, one.failed) for one in told] == [(NOT_CONFIGURED, True)]
    assert kept == [{"outcome": "could not alert: SLACK_WEBHOOK_URL is not set"}]
    assert texts(sandbox) == ["k"]


def test_two_senders_at_once_send_each_message_once(
    engine: Engine, sandbox: RunningSandbox, configure: Configure
) -> None:
    """Every worker sends what waits."""
    for number in range(6):
        note_condition(engine, f"k{number}", True, {})
    barrier = Barrier(3)

    def send() -> list[Told]:
        barrier.wait()
        return send_waiting(engine, configure(), write)

    with ThreadPoolExecutor(3) as pool:
        told = [one for sender in [pool.submit(send) for _ in range(3)] for one in sender.result()]
    told += send_waiting(engine, configure(), write)

    assert sorted(one.key for one in told) == sorted(texts(sandbox)) == [f"k{number}" for number in range(6)]


def test_crash_between_writing_and_sending_loses_no_message(
    engine: Engine, sandbox: RunningSandbox, configure: Configure, owner: Books
) -> None:
    """The next sender finds it: at once if nobody had claimed it, else when that claim has ended."""
    note_condition(engine, "claimed", True, {})
    note_condition(engine, "written", True, {})
    claim_alerts(engine)  # and never heard of again
    sent = [outcomes(send_waiting(engine, configure(), write))]
    owner.value("UPDATE alerts SET due_at = due_at - interval '6 minutes' RETURNING 1")
    sent.append(outcomes(send_waiting(engine, configure(), write)))

    assert sent == [{"written": "sent"}, {"claimed": "sent"}]
    assert texts(sandbox) == ["written", "claimed"]


def test_quiet_hours_hold_back_all_but_critical_messages(
    engine: Engine, sandbox: RunningSandbox, configure: Configure
) -> None:
    """Until they end; being held back is no failure."""
    settings = configure(quiet_hours="22:00-06:00")
    note_condition(engine, "k", True, {})
    note_condition(engine, "urgent", True, {}, "critical")
    night = send_waiting(engine, settings, write, datetime(2026, 11, 22, 23, tzinfo=UTC))
    at_night = texts(sandbox)
    morning = send_waiting(engine, settings, write, datetime(2026, 11, 23, 6, tzinfo=UTC))

    assert outcomes(night) == {"urgent": "sent", "k": "held back until 2026-11-23 06:00 UTC by quiet hours"}
    assert not any(one.failed for one in night)
    assert at_night == ["urgent"]
    assert outcomes(morning) == {"k": "sent"}
