"""Processes die at random moments, again and again; each webhook has its effect exactly once.

`KILL_STORM=2000:10` in the environment makes it 2,000 events and 10 kills.
"""

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from billing.migrate import migrate
from calltally.sandbox.deliveries import Weather, plan_deliveries
from calltally.sandbox.sending import SendReport, Target, send
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.vapi_webhooks import messages_about

from .house import STUBBORN, House, Mortal, open_house
from .places import DAY_END

EVENTS, KILLS = (int(number) for number in os.environ.get("KILL_STORM", "20000:100").split(":"))
PAYMENTS = 50
MESSAGES_PER_CALL = 3
BETWEEN_KILLS_SECONDS = (0.2, 3.6)
WEATHER = Weather(duplicate_rate=0.05, delay_rate=0.1, disorder_rate=0.3)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


async def send_webhooks(house: House, calls: int, per_second: float) -> tuple[SendReport, SendReport]:
    """Both providers send at once, each until the last of its deliveries is accepted."""
    placed = house.place_calls(calls)
    plan = plan_deliveries(messages_about(placed), WEATHER, seed=1)
    vapi = Target(f"{house.receiver_url}/webhooks/vapi", house.sandbox.sandbox.vapi_signer, STUBBORN)
    return await asyncio.gather(
        send(plan.deliveries, vapi, concurrency=32, per_second=per_second), asyncio.to_thread(send_payments, house)
    )


def send_payments(house: House) -> SendReport:
    """Two events for each payment, each of them twice."""
    organization_id = house.ask("SELECT id FROM organizations")[0]["id"]
    topups = [
        house.sandbox.stripe.pay_topup(Payment(1_000, client_reference_id=str(organization_id)), at=DAY_END)
        for _ in range(PAYMENTS)
    ]
    delivered = house.sandbox.sandbox.deliver_events(
        [event for topup in topups for event in topup.events],
        url=f"{house.receiver_url}/webhooks/stripe",
        weather=Weather(duplicate_rate=1.0),
        retries=STUBBORN,
        concurrency=2,
    )
    return delivered.report


async def kill_at_random(mortals: list[Mortal], times: int) -> None:
    """Kill one of them, start it again at once, and wait for a moment, so many times."""
    random = Random(2)
    for _ in range(times):
        await asyncio.sleep(random.uniform(*BETWEEN_KILLS_SECONDS))
        victim = random.choice(mortals)
        await asyncio.to_thread(victim.kill)
        victim.start()


async def storm(home: Path, sandbox: RunningSandbox) -> None:
    """The whole storm, and what the books say after it."""
    async with open_house(home, sandbox) as house:
        migrate(house.postgres.url())
        house.open_wallet()
        roles = ("receiver", "worker", "worker")
        mortals = [
            Mortal(verb, house.environment, home / f"{verb}-{number}.log") for number, verb in enumerate(roles)
        ]
        calls = EVENTS // MESSAGES_PER_CALL + 1
        seconds = KILLS * sum(BETWEEN_KILLS_SECONDS) / 2
        try:
            for mortal in mortals:
                mortal.start()
            reports, _ = await asyncio.gather(
                send_webhooks(house, calls, calls * MESSAGES_PER_CALL / seconds), kill_at_random(mortals, KILLS)
            )
            statuses = [report.final_statuses for report in reports]
            assert [list(status) for status in statuses] == [["200"], ["200"]]
            await house.until_applied()
        finally:
            for mortal in mortals:
                mortal.kill()
        check(house, calls)


def check(house: House, calls: int) -> None:
    """Each call is charged once, each payment credited once, nothing is lost, dead or held."""
    events = house.ask("SELECT type, state, count(*) AS events FROM events GROUP BY type, state ORDER BY type")
    charged = house.ask("SELECT count(*) AS charges, count(DISTINCT idempotency_key) AS keys FROM charges")
    moved = house.ask(
        "SELECT kind, count(*) AS transfers FROM transfers WHERE kind IN ('topup', 'call')"
        " GROUP BY kind ORDER BY kind"
    )
    settled = house.ask("SELECT count(*) AS charges FROM charges WHERE state = 'settled'")[0]["charges"]

    assert [tuple(row.values()) for row in events] == [
        ("checkout.session.completed", "done", PAYMENTS),
        ("end-of-call-report", "done", calls),
        ("payment_intent.succeeded", "done", PAYMENTS),
        ("status-update", "skipped", 2 * calls),
    ]
    assert charged == [{"charges": calls, "keys": calls}]
    assert settled > 0.9 * calls
    assert moved == [{"kind": "call", "transfers": settled}, {"kind": "topup", "transfers": PAYMENTS + 1}]
    assert house.ask("SELECT * FROM check_books()") == []


def test_storm_of_kills_leaves_each_event_with_exactly_one_effect(home: Path, sandbox: RunningSandbox) -> None:
    """Receiver and workers get SIGKILL at random moments while both providers send and send again."""
    asyncio.run(storm(home, sandbox))
