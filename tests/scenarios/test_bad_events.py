"""One bad event, or one thing that is missing: the others are applied, no innocent dies, and people are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from billing.deliveries import identify_vapi
from billing.inbox import accept
from billing.migrate import migrate
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi_webhooks import end_of_call_report

from .house import House, Mortal, open_house

GOOD = 200
POISON = b'{"message": {"type": "end-of-call-report", "call": {"id": "poison"}}}'
DEADLY = """
import os, signal, sys
from datetime import timedelta
from billing import applying, inbox
from calltally.cli import main

inbox.LEASE = timedelta(seconds=5)
harmless = applying.interpret

def interpret(provider, event_type, body, **options):
    if b'"poison"' in body:
        os.kill(os.getpid(), signal.SIGKILL)
    return harmless(provider, event_type, body, **options)

applying.interpret = interpret
sys.argv[0] = "calltally"
main()
"""
"""A worker that a certain event kills on the spot, as a defect in a library would, with a lease that is soon over."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@asynccontextmanager
async def mended(house: House, deadly: Mortal) -> AsyncIterator[list[int]]:
    """The worker runs, and is started again whenever it has died; the list has a place for each of its deaths."""
    deaths: list[int] = []

    async def watch() -> None:
        while True:
            if deadly.is_dead:
                deaths.append(len(deaths))
                deadly.start()
            await asyncio.sleep(0.1)

    deadly.start()
    watching = asyncio.create_task(watch())
    try:
        yield deaths
    finally:
        watching.cancel()
        deadly.kill()


def report(house: House, count: int) -> None:
    """So many calls have ended, and their reports lie in the inbox."""
    accept(house.engine, [identify_vapi(end_of_call_report(call).body) for call in house.place_calls(count)])


def as_owner(house: House, statement: str) -> None:
    """Change what no program may change."""
    with house.engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE NONE"))
        connection.execute(text(statement))


async def scenario(home: Path, sandbox: RunningSandbox) -> None:
    """First the event that kills, then the function that is missing."""
    async with open_house(home, sandbox) as house:
        migrate(house.postgres.url())
        house.open_wallet()
        report(house, GOOD // 2)
        accept(house.engine, [identify_vapi(POISON)])
        report(house, GOOD // 2)
        deadly = Mortal("worker", house.environment, home / "worker.log", program=("-c", DEADLY))
        async with mended(house, deadly) as deaths:
            await house.until("SELECT count(*) = 1 FROM events WHERE state = 'dead'")
            await house.until(f"SELECT count(*) = {GOOD} FROM events WHERE state = 'done'")
            await house.until("SELECT count(*) = 1 FROM incidents WHERE key = 'dead_events:vapi:WorkerDied'")
            check_poison(house, len(deaths))

            as_owner(house, "ALTER FUNCTION record_calls RENAME TO gone")
            report(house, 5)
            await house.until("SELECT count(*) = 1 FROM incidents WHERE key = 'worker_paused'")
            assert house.ask("SELECT DISTINCT state, attempts FROM events WHERE state NOT IN ('done', 'dead')") in (
                [{"state": "waiting", "attempts": 0}],
                [{"state": "active", "attempts": 0}],
                [{"state": "active", "attempts": 0}, {"state": "waiting", "attempts": 0}],
            )
            as_owner(house, "ALTER FUNCTION gone RENAME TO record_calls")
            await house.until(f"SELECT count(*) = {GOOD} + 5 FROM events WHERE state = 'done'")
            await house.until("SELECT closed_at IS NOT NULL FROM incidents WHERE key = 'worker_paused'")
            assert len(deaths) == 4
        assert house.ask("SELECT * FROM check_books()") == []
        told = [message["text"] for message in sandbox.slack.messages]
        assert [
            sum(words in line for line in told) for words in ("WorkerDied", "A worker pauses", "applied again")
        ] == [
            1,
            1,
            1,
        ]


def check_poison(house: House, deaths: int) -> None:
    """It had killed among others and three times alone; nobody else died, and each call is charged once."""
    [poison] = house.ask("SELECT id, reason, attempts FROM events WHERE state = 'dead'")
    history = house.ask("SELECT message FROM event_attempts JOIN events ON id = event_id WHERE state = 'dead'")
    charged = house.ask("SELECT count(*) AS charges, count(DISTINCT idempotency_key) AS keys FROM charges")

    assert poison["reason"].startswith("WorkerDied: ")
    assert (deaths, poison["attempts"], len(history)) == (4, 4, 4)
    assert charged == [{"charges": GOOD, "keys": GOOD}]


def test_event_that_kills_its_worker_and_function_that_is_missing_stop_nothing(
    home: Path, sandbox: RunningSandbox
) -> None:
    """A real worker is killed by a real event, again and again, beside 200 good ones; then one grant is gone."""
    asyncio.run(scenario(home, sandbox))
