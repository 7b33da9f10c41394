"""A Prefect that is away is told by the workers themselves; minutes pass in the arguments."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from billing import prefect_down
from billing.alerts import enqueue_message
from billing.settings import Settings
from calltally.prefect_watch import PrefectWatch
from calltally.sandbox.faults import text_fault
from calltally.sandbox.server import RunningSandbox
from tests.books import Books
from tests.databases import Scratch, execute
from tests.prefects import StandIn, prefect_answering

Configure = Callable[..., Settings]
Start = Callable[..., PrefectWatch]
Look = Callable[..., None]

BEGAN = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
NOBODY = "http://127.0.0.1:1/api"
DOWN = "Critical: No worker reaches Prefect: webhooks wait, and nobody watches the books: last reached"


@pytest.fixture
def prefect() -> Iterator[StandIn]:
    """A server that is well until its status says otherwise."""
    with prefect_answering() as server:
        yield server


@pytest.fixture
def hanging() -> Iterator[str]:
    """One that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"


@pytest.fixture
def start(engine: Engine, configure: Configure) -> Start:
    """The watch of a worker, which asks at an address; keyword arguments are settings."""

    def watch(api_url: str, name: str = "worker-1", *, answer_seconds: float = 20, **settings: Any) -> PrefectWatch:
        chosen = configure(prefect_api_url=api_url, **settings)
        return PrefectWatch(engine, chosen, worker=name, answer_seconds=answer_seconds)

    return watch


@pytest.fixture
def look() -> Iterator[Look]:
    """Look so many minutes after the beginning, one after the other."""
    watches: dict[int, PrefectWatch] = {}
    with asyncio.Runner() as runner:

        def looks(watch: PrefectWatch, *minutes: float) -> None:
            watches[id(watch)] = watch
            for minute in minutes:
                runner.run(watch.look(BEGAN + timedelta(minutes=minute)))

        yield looks
        for watch in watches.values():
            runner.run(watch.close())


def told(sandbox: RunningSandbox) -> list[str]:
    """The messages in Slack."""
    return [message["text"] for message in sandbox.slack.messages]


def make_due(owner: Books) -> None:
    """What Slack refused is tried again after a minute; let it be over."""
    owner.value("UPDATE alerts SET due_at = now() WHERE sent_at IS NULL RETURNING 1")


def test_prefect_that_stopped_is_told_once_after_ten_minutes(
    look: Look, start: Start, sandbox: RunningSandbox, prefect: StandIn, books: Books
) -> None:
    """By the worker alone: nothing of Prefect's is there to do it. A restart that takes nine minutes is no news."""
    look(start(prefect.api_url), 0)
    watch = start(NOBODY)
    look(watch, *range(1, 11))
    before = told(sandbox)
    look(watch, *range(11, 20))

    assert before == []
    assert told(sandbox) == [f"{DOWN} 2026-11-22 23:00 UTC"]
    assert books.rows("SELECT key, severity, times_seen, closed_at FROM incidents") == [
        {"key": "prefect_down", "severity": "critical", "times_seen": 9, "closed_at": None}
    ]


def test_prefect_that_hangs_is_away(look: Look, start: Start, sandbox: RunningSandbox, hanging: str) -> None:
    """The worker does not wait for it, and says what it saw."""
    look(start(hanging, answer_seconds=0.05), 0, 10)

    assert told(sandbox) == [f"{DOWN} never"]
    assert "it does not answer in time" in str(sandbox.slack.messages[0])


@pytest.mark.parametrize(("status", "said"), [(503, "it answers 503"), (401, "PREFECT_API_AUTH_STRING")])
def test_prefect_that_is_not_ready_is_away_and_the_message_says_what_it_answers(
    look: Look, start: Start, sandbox: RunningSandbox, prefect: StandIn, status: int, said: str
) -> None:
    """Its process may be there without its database, or may not believe us."""
    prefect.status = status
    look(start(prefect.api_url), 0, 10)

    assert said in str(sandbox.slack.messages[0])


def test_prefect_that_answered_in_between_begins_ten_new_minutes(
    look: Look, start: Start, sandbox: RunningSandbox, prefect: StandIn
) -> None:
    """Events were applied meanwhile."""
    watch = start(prefect.api_url)
    for status, minutes in ((503, range(10)), (200, [10]), (503, range(11, 20))):
        prefect.status = status
        look(watch, *minutes)

    assert told(sandbox) == []


def test_prefect_that_is_back_ends_the_incident(
    look: Look, start: Start, sandbox: RunningSandbox, prefect: StandIn, books: Books
) -> None:
    """With its all-clear, whichever worker reaches it first; the next time is another incident."""
    watch = start(prefect.api_url)
    prefect.status = 503
    look(watch, 0, 10)
    prefect.status = 200
    look(start(prefect.api_url, "worker-2"), 20)
    look(watch, 21, 22)
    [_, all_clear] = told(sandbox)
    prefect.status = 503
    look(watch, 30, 40)

    assert all_clear.startswith("Prefect is reached again. From ")
    assert [row["open"] for row in books.rows("SELECT closed_at IS NULL AS open FROM incidents ORDER BY id")] == [
        False,
        True,
    ]
    assert len(told(sandbox)) == 3


def test_several_workers_tell_of_one_incident(look: Look, start: Start, sandbox: RunningSandbox) -> None:
    """Each looks for itself."""
    workers = [start(NOBODY, f"worker-{number}") for number in range(3)]
    for minute in (0, 10, 11):
        for watch in workers:
            look(watch, minute)

    assert told(sandbox) == [f"{DOWN} never"]


def test_worker_that_alone_does_not_reach_prefect_raises_nothing(
    look: Look, start: Start, sandbox: RunningSandbox, prefect: StandIn, books: Books
) -> None:
    """The others apply the events; and the incident would begin and end with every look."""
    reaching, cut_off = start(prefect.api_url, "worker-1"), start(NOBODY, "worker-2")
    for minute in range(30):
        look(cut_off, minute)
        look(reaching, minute)

    assert told(sandbox) == []
    assert books.rows("SELECT * FROM incidents") == []


def test_watch_sends_what_else_is_due_while_prefect_is_away(
    look: Look, start: Start, sandbox: RunningSandbox, engine: Engine
) -> None:
    """The flows that would are Prefect's."""
    enqueue_message(engine, "heartbeat", "heartbeat:1", {"day": "2026-11-22", "incidents": 0, "first": []})
    look(start(NOBODY), 0, 10)

    assert len(told(sandbox)) == 2


def test_watch_goes_on_trying_while_slack_is_away(
    look: Look, start: Start, sandbox: RunningSandbox, owner: Books
) -> None:
    """The message waits in the outbox, and goes out by the watch when Slack is back."""
    sandbox.slack.faults.add(text_fault(404, "no_service"))
    watch = start(NOBODY)
    look(watch, 0, 10)
    before = told(sandbox)
    make_due(owner)
    look(watch, 11)

    assert before == []
    assert told(sandbox) == [f"{DOWN} never"]


def test_watch_outlives_a_database_that_is_away_and_remembers_since_when_prefect_is(
    own_tables: Scratch, look: Look, start: Start, sandbox: RunningSandbox
) -> None:
    """Both may lie on the machine that is gone."""
    watch = start(NOBODY)
    execute(own_tables.url, "ALTER TABLE workers RENAME TO workers_away")
    look(watch, 0, 10)
    execute(own_tables.url, "ALTER TABLE workers_away RENAME TO workers")
    look(watch, 11)

    assert told(sandbox) == [f"{DOWN} never"]


def test_quiet_hours_hold_it_back_no_more_than_other_critical_messages(
    look: Look, start: Start, sandbox: RunningSandbox, engine: Engine
) -> None:
    """What can wait until the morning does."""
    enqueue_message(engine, "heartbeat", "heartbeat:1", {"day": "2026-11-22", "incidents": 0, "first": []})
    look(start(NOBODY, quiet_hours="22:00-06:00"), 0, 10)

    assert told(sandbox) == [f"{DOWN} never"]


@pytest.mark.slow
def test_worker_watches_prefect_beside_its_other_duties(
    engine: Engine, configure: Configure, sandbox: RunningSandbox, hanging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each of them waits for it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415 - takes seconds

    from calltally import worker  # noqa: PLC0415 - imports Prefect

    monkeypatch.setattr(worker, "get_settings", lambda: configure(prefect_api_url=hanging))
    monkeypatch.setattr(prefect_down, "PATIENCE", timedelta(0))

    async def until_told() -> None:
        working = asyncio.create_task(worker.Worker(engine, max_runs=1, batch_limit=1).work())
        while not sandbox.slack.messages and not working.done():  # noqa: ASYNC110 - Slack is in another thread
            await asyncio.sleep(0.05)
        working.cancel()
        await asyncio.wait([working])

    with temporary_settings({PREFECT_API_URL: hanging}):
        asyncio.run(until_told())

    assert told(sandbox) == [f"{DOWN} never"]
