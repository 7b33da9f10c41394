"""A worker that can apply nothing pauses for ever longer, and people hear of it, with the books or without."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from billing.errors import BillingError, DatabaseUnavailable, InstallationBroken
from calltally.pause import DELAYS_SECONDS, Pause
from calltally.sandbox.server import RunningSandbox
from tests.books import Books

from .conftest import Configure

BEGAN = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
MISSING = InstallationBroken("function record_calls(jsonb) does not exist", sqlstate="42883")
AWAY = DatabaseUnavailable("the database went away", sqlstate="57P01")
QUOTING = InstallationBroken("+14155550123 is odd", sqlstate="XX000")


def told(sandbox: RunningSandbox) -> list[str]:
    """The messages in Slack."""
    return [message["text"] for message in sandbox.slack.messages]


def begin(pause: Pause, error: BillingError, *seconds: float) -> None:
    """Fail so many seconds after the beginning, one after the other."""

    async def fail() -> None:
        for second in seconds:
            await pause.begin(error, BEGAN + timedelta(seconds=second))

    asyncio.run(fail())


def test_pause_grows_until_a_run_succeeds(engine: Engine, configure: Configure) -> None:
    """Each try later than the one before, up to half a minute; the next trouble begins anew."""
    pause, waits = Pause(engine, configure()), []

    async def fail() -> None:
        loop = asyncio.get_running_loop()
        for error in [AWAY] * 8 + [None, AWAY]:
            if error is None:
                await pause.end()
                continue
            before = loop.time()
            await pause.begin(error, BEGAN)
            waits.append(next(delay for delay in reversed(DELAYS_SECONDS) if pause.until >= before + delay))

    asyncio.run(fail())

    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 1]


def test_missing_function_is_told_at_once_and_again_when_it_is_back(
    engine: Engine, configure: Configure, sandbox: RunningSandbox, books: Books
) -> None:
    """Once, however often the worker tries; the message names the function and the next step."""
    pause = Pause(engine, configure())
    begin(pause, MISSING, 0, 1, 3, 200)
    asyncio.run(pause.end())
    asyncio.run(pause.end())
    [raised, cleared] = told(sandbox)

    assert raised.startswith("Critical: A worker pauses")
    assert cleared.startswith("Webhooks are applied again")
    assert "record_calls(jsonb) does not exist" in str(sandbox.slack.messages[0])
    assert "calltally migrate" in str(sandbox.slack.messages[0])
    assert [row["key"] for row in books.rows("SELECT key FROM incidents")] == ["worker_paused"]


def test_database_that_is_back_within_a_minute_is_no_news(
    engine: Engine, configure: Configure, sandbox: RunningSandbox
) -> None:
    """A restart is none; a minute is."""
    pause = Pause(engine, configure())
    begin(pause, AWAY, 0, 59)
    before = told(sandbox)
    begin(pause, AWAY, 60)

    assert (before, len(told(sandbox))) == ([], 1)


@pytest.mark.parametrize("error", [MISSING, AWAY])
def test_books_that_take_no_incident_do_not_keep_people_from_hearing(
    engine: Engine, configure: Configure, sandbox: RunningSandbox, books: Books, error: BillingError
) -> None:
    """A read-only server, or none: Slack is told without them, once."""
    pause = Pause(engine.execution_options(postgresql_readonly=True), configure())
    begin(pause, error, 0, 60, 120, 180)

    assert [text.startswith("Critical: A worker pauses") for text in told(sandbox)] == [True]
    assert books.rows("SELECT FROM incidents") == []


def test_message_and_log_quote_nothing_that_may_be_a_body(
    engine: Engine, configure: Configure, sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The database's words are shown where they can only name things of ours."""
    begin(Pause(engine, configure()), QUOTING, 0)

    assert "SQLSTATE XX000" in str(sandbox.slack.messages)
    assert "4155550123" not in str(sandbox.slack.messages) + caplog.text


def test_worker_that_starts_closes_what_its_predecessor_left(
    engine: Engine, configure: Configure, sandbox: RunningSandbox, books: Books
) -> None:
    """It may have been restarted as the remedy."""
    begin(Pause(engine, configure()), MISSING, 0)
    asyncio.run(Pause(engine, configure()).end())

    assert books.value("SELECT closed_at IS NOT NULL FROM incidents")
    assert len(told(sandbox)) == 2
