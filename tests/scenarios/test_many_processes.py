"""Several receivers and workers share one Postgres; some die midway; every event has its effect once."""

import asyncio
import os
from pathlib import Path

import pytest

from billing.migrate import migrate
from calltally.sandbox.deliveries import Weather, plan_deliveries
from calltally.sandbox.sending import SendReport, Target, send
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi_webhooks import messages_about

from .house import STUBBORN, House, Mortal, open_house

CALLS = int(os.environ.get("MANY_CALLS", "3000"))
MESSAGES_PER_CALL = 3
ORGANIZATIONS = ("asst-acme", "asst-bolt", "asst-corner")
WEATHER = Weather(duplicate_rate=0.3, delay_rate=0.05, disorder_rate=0.3)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def send_everything(house: House) -> SendReport:
    """All messages of all calls, a third of them twice, each until it is accepted."""
    placed = [call for name in ORGANIZATIONS for call in house.place_calls(CALLS // len(ORGANIZATIONS), name)]
    plan = plan_deliveries(messages_about(placed), WEATHER, seed=4)
    target = Target(f"{house.receiver_url}/webhooks/vapi", house.sandbox.sandbox.vapi_signer, STUBBORN)
    return await send(plan.deliveries, target, concurrency=32)


async def kill_midway(house: House, receiver: Mortal, worker: Mortal) -> None:
    """One of the receivers and one of the workers get SIGKILL while events arrive and are applied; for good."""
    await house.until(f"SELECT count(*) > {CALLS} FROM events")
    await asyncio.to_thread(worker.kill)
    await house.until(f"SELECT count(*) > {CALLS + CALLS // 2} FROM events")
    await asyncio.to_thread(receiver.kill)


async def scenario(home: Path, sandbox: RunningSandbox) -> int:
    """Three workers and two receivers on one port; how many workers took events."""
    async with open_house(home, sandbox) as house:
        migrate(house.postgres.url())
        for name in ORGANIZATIONS:
            house.open_wallet(name)
        roles = ("receiver", "receiver", "worker", "worker", "worker")
        mortals = [
            Mortal(verb, house.environment, home / f"{verb}-{number}.log") for number, verb in enumerate(roles)
        ]
        try:
            for mortal in mortals:
                mortal.start()
            await house.until("SELECT count(*) = 3 FROM workers")
            report, _ = await asyncio.gather(send_everything(house), kill_midway(house, mortals[0], mortals[2]))
            await house.until_applied()
        finally:
            for mortal in mortals:
                mortal.kill()
        check(house, report)
        return len(house.ask("SELECT DISTINCT claimed_by FROM events"))


def check(house: House, report: SendReport) -> None:
    """Every accepted event ended, each call is charged once, and the books are right."""
    events = house.ask("SELECT type, state, count(*) AS events FROM events GROUP BY type, state ORDER BY type")
    charged = house.ask("SELECT count(*) AS charges, count(DISTINCT idempotency_key) AS keys FROM charges")
    repeated = house.ask("SELECT count(*) FILTER (WHERE deliveries > 1) AS repeated FROM events")[0]["repeated"]

    assert list(report.final_statuses) == ["200"]
    assert [tuple(row.values()) for row in events] == [
        ("end-of-call-report", "done", CALLS),
        ("status-update", "skipped", (MESSAGES_PER_CALL - 1) * CALLS),
    ]
    assert charged == [{"charges": CALLS, "keys": CALLS}]
    assert repeated > CALLS // 2
    assert house.ask("SELECT * FROM check_books()") == []


def test_several_processes_share_the_work_and_survive_the_death_of_some(home: Path, sandbox: RunningSandbox) -> None:
    """Two receivers and three workers; one of each is killed; every event ends exactly once."""
    assert asyncio.run(scenario(home, sandbox)) >= 2
