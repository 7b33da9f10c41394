"""Each process of `calltally up` gets kill -9 while webhooks arrive; it comes back by itself, and nothing is lost."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from calltally.sandbox.calls import Call, Route
from calltally.sandbox.sending import Retries
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.world import Delivered

from .installation import Installation, installed, start
from .places import DAY_END, DAY_START

CALLS = 400
RECOVERY_SECONDS = 120.0
"""More than enough on a busy machine, and a bound: what has not come back by then waits for a person."""
STUBBORN = Retries((0.25,) * 400)
DEATHS = 6
"""In less than a minute, as the waits between them are 1, 2, 4, 8 and 16 s."""
ASSISTANT = "asst-acme"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def installation(home: Path, sandbox: RunningSandbox) -> Iterator[Installation]:
    """Everything runs, and an organization has money and a route."""
    with installed(home, sandbox.environment()) as running:
        organization_id = running.books.organization("Acme")
        running.books.credit(organization_id, 1_000_000_000_000, "topup:pi_acme")
        running.books.route(organization_id, ASSISTANT)
        yield running


@pytest.fixture
def calls(sandbox: RunningSandbox) -> list[Call]:
    """Calls that all connected and ended."""
    route = Route(assistant_id=ASSISTANT)
    traffic = Traffic(CALLS, (route,), DAY_START, DAY_END, never_connected_share=0.0, detail="slim")
    return sandbox.vapi.place_calls(traffic)


def until(holds: Callable[[], bool], what: str, seconds: float = RECOVERY_SECONDS) -> None:
    """Wait for it, within the bound."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(Exception):  # the database may be what is away
            if holds():
                return
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def the(installation: Installation, name: str) -> psutil.Process:
    """The process of this name, the postmaster of Postgres."""
    process: psutil.Process = installation.processes()[name][0]
    return process


def deliver(
    installation: Installation, sandbox: RunningSandbox, calls: list[Call], pool: ThreadPoolExecutor
) -> Future[Delivered]:
    """Begin to send all webhooks of the calls, each until it is accepted; return once some have arrived."""
    before = installation.ask("SELECT count(*) AS events FROM events")[0]["events"]
    url = f"{installation.receiver_url}/webhooks/vapi"
    delivery = pool.submit(sandbox.sandbox.deliver_calls, calls, url=url, retries=STUBBORN, concurrency=4)
    query = "SELECT count(*) AS events FROM events"
    until(lambda: installation.ask(query)[0]["events"] > before + 20, "the first webhooks")
    return delivery


def check(installation: Installation, calls: list[Call], delivered: Delivered) -> None:
    """Everything was accepted and applied, each call is charged once, and the books are right."""
    unfinished = "SELECT count(*) = 0 AS empty FROM events WHERE state IN ('waiting', 'active', 'delayed')"
    until(lambda: bool(installation.ask(unfinished)[0]["empty"]), "the inbox to be empty")
    charged = [row["id"] for row in installation.ask("SELECT right(idempotency_key, -5) AS id FROM charges")]

    assert list(delivered.report.final_statuses) == ["200"]
    assert len(charged) == len(set(charged))
    assert {call.id for call in calls} <= set(charged)
    assert installation.ask("SELECT count(*) AS dead FROM events WHERE state NOT IN ('done', 'skipped')")[0] == {
        "dead": 0
    }
    assert installation.books.broken() == []


@pytest.mark.parametrize("name", ["postgres", "prefect", "worker", "nights", "receiver", "guard"])
def test_killed_process_comes_back_by_itself(
    installation: Installation, sandbox: RunningSandbox, calls: list[Call], name: str
) -> None:
    """After kill -9 amid the traffic another one takes its place, all is healthy again, and nothing is lost."""
    with ThreadPoolExecutor(1) as pool:
        delivery = deliver(installation, sandbox, calls, pool)
        victim = the(installation, name)
        victim.kill()
        until(lambda: the(installation, name).pid != victim.pid, f"another {name}")
        delivered = delivery.result()
    until(installation.is_healthy, "health")

    check(installation, calls, delivered)
    assert installation.process.poll() is None
    if name != "guard":
        assert f"{name} " in installation.output
        assert "starting" in installation.output


def test_worker_that_dies_six_times_stops_neither_receiver_nor_postgres(
    installation: Installation, sandbox: RunningSandbox, calls: list[Call]
) -> None:
    """Each time it is there it is killed: webhooks are taken in meanwhile, by the same processes, applied later."""
    lasting = [the(installation, name).pid for name in ("supervisor", "postgres", "receiver")]
    victims: set[int] = set()
    with ThreadPoolExecutor(1) as pool:
        delivery = deliver(installation, sandbox, calls, pool)
        while len(victims) < DEATHS:
            until(lambda: the(installation, "worker").pid not in victims, "another worker")
            victim = the(installation, "worker")
            victims.add(victim.pid)
            victim.kill()
        delivered = delivery.result()

    assert [the(installation, name).pid for name in ("supervisor", "postgres", "receiver")] == lasting
    until(installation.is_healthy, "health")
    check(installation, calls, delivered)
    assert "starting again in 16 s" in installation.output


def test_killed_supervisor_leaves_nothing_behind_and_starts_again(
    installation: Installation, sandbox: RunningSandbox, calls: list[Call]
) -> None:
    """Its processes and its Postgres end within seconds; what was answered 200 is there after the next start."""
    with ThreadPoolExecutor(1) as pool:
        delivery = deliver(installation, sandbox, calls, pool)
        family = installation.descendants()
        installation.process.kill()
        installation.process.wait()
        until(lambda: not any(_lives(process) for process in family), "the last process to end", 60)
        again = start(installation.home, installation.environment)
        try:
            until(installation.is_healthy, "health after the start")
            delivered = delivery.result()
            check(installation, calls, delivered)
        finally:
            again.terminate()
            again.wait(timeout=60)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
