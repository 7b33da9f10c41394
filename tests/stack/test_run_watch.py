"""Runs whose process is gone are found by their state, and a lost night is started again: with a real server."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import Event, Resource
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running, Scheduled
from pydantic import SecretStr

from calltally.stack.automations import PATIENCE, install_automations
from calltally.stack.run_watch import AGAIN, NIGHT, RunWatch
from calltally.stack.warm_worker import TERMINAL
from tests.stack.serving import IMPATIENT, Stack, serving, until
from tests.stack.sleeping import sleeping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def stack(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A night and another flow, and nobody who runs them."""
    with serving(postgres_url, tmp_path_factory.mktemp("prefect")) as stack:
        for name in (NIGHT, "backfill_payments"):
            stack.deploy(name, "nights", sleeping.with_options(name=name), limit=1)
        asyncio.run(install_automations(SecretStr(stack.sandbox.slack_webhook_url), IMPATIENT))
        yield stack


def look(later: timedelta = timedelta(0), watch: RunWatch | None = None) -> None:
    """One look of a worker, so much later."""
    asyncio.run((watch or RunWatch()).look(datetime.now(UTC) + later))


def state_of(stack: Stack, run_id: UUID) -> str | None:
    """By its name."""
    with stack.client() as client:
        return client.read_flow_run(run_id).state_name


def successors(stack: Stack) -> list[FlowRun]:
    """Nights that were started again, the first one first."""
    started = [run for run in stack.runs(NIGHT) if (run.idempotency_key or "").startswith("again:")]
    return sorted(started, key=lambda run: run.idempotency_key or "")


def night(stack: Stack, *states: State[Any], tags: tuple[str, ...] = ("auto-scheduled",)) -> UUID:
    """A night that was due an hour ago and went through these states."""
    with stack.client() as client:
        run = client.create_flow_run_from_deployment(
            stack.deployments[NIGHT],
            state=Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1)),
            parameters={"seconds": 7},
            tags=list(tags),
        )
        for state in states:
            client.set_flow_run_state(run.id, state, force=True)
    return run.id


def told_again(stack: Stack) -> list[str]:
    """What Slack heard of nights that are started again."""
    return [text for text in stack.told() if "ended otherwise than planned" in text]


def beaten(stack: Stack, *runs: UUID) -> bool:
    """After a heartbeat of each of these runs, as their processes send them."""
    for run in runs:
        heartbeat = Event(
            event="prefect.flow-run.heartbeat", resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run}"})
        )
        url = f"{stack.env['PREFECT_API_URL']}/events"
        httpx.post(url, json=[heartbeat.model_dump(mode="json")], trust_env=False, timeout=30).raise_for_status()
    return True


def looked(watch: RunWatch) -> bool:
    """After one look of it."""
    look(watch=watch)
    return True


def last_renewal(stack: Stack) -> float:
    """When a lease was written last; 0 if there is none."""
    files = (Path(stack.env["PREFECT_HOME"]) / "concurrency_leases").glob("*-*.json")
    return max((file.stat().st_mtime for file in files), default=0.0)


def clear(stack: Stack) -> None:
    """Forget all nights."""
    with stack.client() as client:
        for run in stack.runs(NIGHT):
            client.delete_flow_run(run.id)


def test_runs_that_never_began_and_runs_that_are_silent_become_crashed(stack: Stack) -> None:
    """Though no event ever came of them. What has ended, waits, or gives a sign of life is left alone."""
    taken = stack.run("backfill_payments", "taken", Pending())
    silent = stack.run("backfill_payments", "silent", Running())
    alive = stack.run("backfill_payments", "alive", Running())
    ended = stack.run("backfill_payments", "ended", Running(), Completed())
    waiting = stack.run("backfill_payments", "waiting", Scheduled(scheduled_time=datetime.now(UTC) + 60 * MINUTE))
    patience = replace(PATIENCE, lost=MINUTE, unstarted=MINUTE)
    watch = RunWatch(patience, answering_since=datetime.now(UTC) - 60 * MINUTE)
    runs = (taken, silent, alive, ended, waiting)
    look(watch=watch)
    early = [state_of(stack, run) for run in runs]
    until(lambda: beaten(stack, alive, ended) and looked(watch) and state_of(stack, silent) == "Crashed")
    late = [state_of(stack, run) for run in runs]

    assert early == ["Pending", "Running", "Running", "Completed", "Scheduled"]
    assert late == ["Crashed", "Crashed", "Running", "Completed", "Scheduled"]


def test_silence_while_prefect_was_away_proves_nothing(stack: Stack) -> None:
    """A watch waits as long after Prefect is back as a run may be silent."""
    run = stack.run("backfill_payments", "cut off", Running())
    watch, now = RunWatch(replace(PATIENCE, lost=MINUTE)), datetime.now(UTC)
    asyncio.run(watch.look(now + 2 * MINUTE))
    first = state_of(stack, run)
    asyncio.run(watch.look(now + 4 * MINUTE))

    assert (first, state_of(stack, run)) == ("Running", "Crashed")


def test_lost_night_is_started_again_three_times_and_told(stack: Stack) -> None:
    """Once each, however many look; with its parameters, for the window that it was due for."""
    clear(stack)
    first = night(stack, Running(), Crashed(message="Execution was cancelled"))
    for number in range(1, AGAIN + 2):
        for _ in range(2):
            look()
        started = successors(stack)
        assert len(started) == min(number, AGAIN)
        with stack.client() as client:
            client.set_flow_run_state(started[-1].id, Crashed(), force=True)
            origin = client.read_flow_run(first)

    assert [run.idempotency_key for run in started] == [f"again:{first}:{number}" for number in (1, 2, 3)]
    assert {run.expected_start_time for run in started} == {origin.expected_start_time}
    assert [run.parameters for run in started] == [{"seconds": 7}] * AGAIN
    assert [set(run.tags) for run in started] == [set(origin.tags)] * AGAIN
    until(lambda: len(told_again(stack)) >= AGAIN)
    assert len(told_again(stack)) == AGAIN


@pytest.mark.parametrize(
    ("end", "tags", "later", "again"),
    [
        (Crashed(), (), 0, True),
        (Failed(name="TimedOut"), (), 0, True),
        (Cancelled(message="Deployment concurrency slot lost during provisioning"), (), 0, True),
        (Failed(), ("auto-scheduled",), 0, False),
        (Failed(), ("auto-scheduled",), 16, True),
        (Failed(), (), 16, False),
        (Cancelled(), ("auto-scheduled",), 16, False),
        (Completed(), ("auto-scheduled",), 16, False),
        (Crashed(), (TERMINAL,), 16, False),
        (Crashed(), ("auto-scheduled",), 13 * 60, False),
    ],
)
def test_night_is_started_again_only_if_nobody_meant_its_end(
    stack: Stack, end: State[Any], tags: tuple[str, ...], later: int, again: bool
) -> None:
    """Whoever gives a wrong name, cancels, or sits before a terminal knows; after half a day the next night comes."""
    clear(stack)
    night(stack, Running(), end, tags=tags)
    look(later * MINUTE)

    assert len(successors(stack)) == again


def test_night_outlives_restarts_of_the_server(stack: Stack) -> None:
    """Killed again and again: leases are kept on disk, so the run that renews its own comes to its end."""
    clear(stack)
    worker = stack.start(
        *("-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process"),
        RENEWED_AFTER="0.03",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
    )
    with stack.client() as client:
        run = client.create_flow_run_from_deployment(stack.deployments[NIGHT], parameters={"seconds": 150})
    stack.until_state(NIGHT, "Running")
    restarts = 0
    while state_of(stack, run.id) == "Running":
        stack.start_server()
        restarts += 1
        look()
        at = last_renewal(stack)
        until(lambda at=at: last_renewal(stack) > at or state_of(stack, run.id) != "Running")  # type: ignore[misc]
    worker.terminate()

    assert restarts >= 2
    assert [found.state_name for found in stack.runs(NIGHT)] == ["Completed"]
