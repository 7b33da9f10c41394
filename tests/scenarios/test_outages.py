"""Parts of the house go away and come back; no webhook is lost, none is applied twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from calltally.sandbox.calls import Call
from calltally.sandbox.server import RunningSandbox

from .house import House, everything, open_house, processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One loop for all scenarios, since the processes are kept alive in it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def house(loop: asyncio.Runner, home: Path, sandbox: RunningSandbox) -> Iterator[House]:
    """Everything runs, and an organization has money and a route."""
    opened = open_house(home, sandbox)
    house = loop.run(opened.__aenter__())
    running = everything(house)
    try:
        loop.run(running.__aenter__())
        house.open_wallet()
        yield house
        loop.run(running.__aexit__(None, None, None))
    finally:
        loop.run(opened.__aexit__(None, None, None))


def check(house: House, calls: list[Call], statuses: dict[str, int]) -> None:
    """Everything was answered 200, each call is charged once, and the books are right."""
    ids = {call.id for call in calls}
    charged = [row["id"] for row in house.ask("SELECT right(idempotency_key, -5) AS id FROM charges")]

    assert list(statuses) == ["200"]
    assert len(charged) == len(set(charged))
    assert ids <= set(charged)
    assert house.ask("SELECT * FROM check_books()") == []


def worker() -> psutil.Process:
    """The worker's process."""
    return processes("-m", "calltally", "worker")[0]


def test_worker_killed_on_its_way_is_replaced(loop: asyncio.Runner, house: House) -> None:
    """Events that died with their worker are applied by its successor, once."""
    calls = house.place_calls(400)

    async def scenario() -> dict[str, int]:
        delivery = asyncio.create_task(house.deliver(calls))
        await house.until_some_arrived(delivery)
        victim = worker()
        victim.kill()
        statuses = await delivery
        await house.until_applied()
        assert worker().pid != victim.pid
        return statuses

    check(house, calls, loop.run(scenario()))


def test_webhooks_are_answered_while_prefect_is_away(loop: asyncio.Runner, house: House) -> None:
    """They wait in the inbox, health says what is down, and they are applied when the server is back."""
    calls = house.place_calls(30)

    async def scenario() -> dict[str, int]:
        await house.stop_prefect()
        away_since = asyncio.get_running_loop().time()
        statuses = await house.deliver(calls)
        async with httpx.AsyncClient(trust_env=False) as client:
            health = await client.get(f"{house.receiver_url}/health")
        assert (health.status_code, health.json()["services"]["prefect"]) == (503, "down")
        assert house.ask("SELECT count(*) AS waiting FROM events WHERE state = 'waiting'")[0]["waiting"] > 0
        await asyncio.sleep(max(0.0, away_since + 60 - asyncio.get_running_loop().time()))
        await house.start_prefect()
        await house.until_applied()
        return statuses

    check(house, calls, loop.run(scenario()))


def test_prefect_that_forgets_everything_gets_its_deployments_back(loop: asyncio.Runner, house: House) -> None:
    """A wiped database of Prefect's costs its history, and no webhook."""
    calls = house.place_calls(30)

    async def scenario() -> dict[str, int]:
        await house.stop_prefect()
        await asyncio.to_thread(house.wipe_prefect)
        await house.start_prefect()
        statuses = await house.deliver(calls)
        await house.until_applied()
        return statuses

    check(house, calls, loop.run(scenario()))


def test_postgres_that_crashes_is_waited_for(loop: asyncio.Runner, house: House) -> None:
    """Senders come again, workers and Prefect connect again, and what was answered 200 is there."""
    calls = house.place_calls(400)

    async def scenario() -> dict[str, int]:
        delivery = asyncio.create_task(house.deliver(calls))
        await house.until_some_arrived(delivery)
        await asyncio.to_thread(house.postgres.stop, "immediate")
        await asyncio.to_thread(house.postgres.start)
        statuses = await delivery
        await house.until_applied()
        return statuses

    check(house, calls, loop.run(scenario()))
