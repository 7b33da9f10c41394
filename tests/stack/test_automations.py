"""Runs whose process is killed become Crashed, and Slack is told: with a real Prefect server and real processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)
from prefect.workers.process import ProcessWorker
from pydantic import SecretStr

from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox
from calltally.stack.automations import install_automations, lost_runs, unresponsive_after
from calltally.stack.prefect_server import (
    HEARTBEAT_SECONDS,
    client_environment,
    ensure_prefect_database,
    server_child,
)
from calltally.stack.warm_worker import WarmWorker
from tests.night.served import running_switchboard
from tests.stack.sleeping import sleeping

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SOON = timedelta(seconds=10)
"""The least that Prefect allows for waiting in vain."""
PATIENCE_SECONDS = 240.0


def test_run_may_miss_some_heartbeats_before_it_counts_as_lost() -> None:
    """One that is late, or lost on its way, is no crash; and other people's runs are none of our business."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 50}):
        patience = unresponsive_after()
    trigger = lost_runs(SOON).trigger.model_dump()

    assert patience == timedelta(seconds=150)
    assert trigger["match_related"]["prefect.resource.id"] == "prefect.tag.calltally"
    assert client_environment("http://x/api", Path("y"))["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(
        HEARTBEAT_SECONDS
    )


@dataclass
class Stack:
    """A Prefect server with our automations, two deployments of a long flow, and processes to kill."""

    env: dict[str, str]
    sandbox: RunningSandbox
    deployments: dict[str, UUID] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of this stack."""
        process = subprocess.Popen([sys.executable, *command], env=self.env, cwd=ROOT)
        self.processes.append(process)
        return process

    def client(self) -> SyncPrefectClient:
        """A client of the server."""
        return get_client(sync_client=True)

    def runs(self, deployment: str) -> list[FlowRun]:
        """The runs of a deployment."""
        with self.client() as client:
            return [run for run in client.read_flow_runs() if run.deployment_id == self.deployments[deployment]]

    def until_state(self, deployment: str, state: str) -> FlowRun:
        """The first run of a deployment, once it is in this state."""

        def known() -> FlowRun | None:
            return next((run for run in self.runs(deployment) if run.state_name == state), None)

        return until(known)

    def kill(self) -> None:
        """End what was started, the youngest first."""
        for process in reversed(self.processes):
            kill_family(process.pid)
            process.wait()

    def told(self) -> list[str]:
        """What Slack was told."""
        return [str(message["text"]) for message in self.sandbox.slack.messages]


def until(found: Callable[[], T | None]) -> T:
    """What is found in the end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (content := found()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.2)
    return content


@pytest.fixture(scope="module")
def stack(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, which looks for lost runs every second."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        api_url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    server = server_child(api_url, ensure_prefect_database(f"{postgres_url}"), home)
    env = {**os.environ, **client_environment(api_url, home), "PYTHONPATH": str(ROOT)}
    with ExitStack() as exits:
        sandbox = exits.enter_context(running_switchboard()).show(Sandbox(seed=7))
        exits.enter_context(temporary_settings({PREFECT_API_URL: api_url, PREFECT_HOME: home}))
        stack = Stack(env, sandbox)
        exits.callback(stack.kill)
        quick = {**os.environ, **server.env, "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S"}
        stack.processes.append(subprocess.Popen(server.command, env=quick, cwd=home))
        until(lambda: answers(f"{api_url}/ready"))
        with stack.client() as client:
            for name, pool, worker in (("warm", "webhooks", WarmWorker), ("cold", "nights", ProcessWorker)):
                template = worker.get_default_base_job_template()
                client.create_work_pool(WorkPoolCreate(name=pool, type=worker.type, base_job_template=template))
                stack.deployments[name] = client.create_deployment(
                    client.create_flow(sleeping),
                    name=name,
                    entrypoint="tests.stack.sleeping.sleeping",
                    tags=["calltally", "night"] if name == "cold" else ["calltally"],
                    work_pool_name=pool,
                    pull_steps=[],
                )
        asyncio.run(install_automations(SecretStr(sandbox.slack_webhook_url), unresponsive=SOON))
        yield stack


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        return httpx.get(url, trust_env=False, timeout=2).is_success
    except httpx.HTTPError:
        return False


def kill_family(pid: int) -> None:
    """Kill a process and what it has started, as the loss of a machine does."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_run_inside_a_worker_that_is_killed_becomes_crashed_and_slack_is_told(stack: Stack) -> None:
    """Nobody is left who could say so; the server misses the signs of life."""
    ended = stack.start("-m", "tests.stack.sleeping", str(stack.deployments["warm"]), "0.1")
    assert ended.wait(60) == 0
    worker = stack.start("-m", "tests.stack.sleeping", str(stack.deployments["warm"]), "600")
    stack.until_state("warm", "Running")
    worker.kill()
    crashed = stack.until_state("warm", "Crashed")
    until(stack.told)

    assert crashed.state is not None
    assert "its process is gone" in (crashed.state.message or "")
    assert sorted(run.state_name or "" for run in stack.runs("warm")) == ["Completed", "Crashed"]
    assert "run warm is Crashed" in stack.told()[0]
    assert str(crashed.id) in stack.told()[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_night_whose_process_or_machine_is_killed_becomes_crashed(stack: Stack) -> None:
    """Its worker says so if only the run's process was killed, and the server if the worker is gone too."""
    worker = stack.start("-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process")
    with stack.client() as client:
        first = client.create_flow_run_from_deployment(stack.deployments["cold"], name="first")
    stack.until_state("cold", "Running")
    kill_family(psutil.Process(worker.pid).children()[0].pid)
    by_worker = stack.until_state("cold", "Crashed")
    with stack.client() as client:
        second = client.create_flow_run_from_deployment(stack.deployments["cold"], name="second")
    stack.until_state("cold", "Running")
    kill_family(worker.pid)
    until(lambda: [run.state_name for run in stack.runs("cold")] == ["Crashed", "Crashed"])

    assert by_worker.id == first.id
    assert {run.id for run in stack.runs("cold")} == {first.id, second.id}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_night_that_fails_is_told_without_the_words_of_its_error(stack: Stack) -> None:
    """They may quote what the error was about; the run's page has them."""
    worker = stack.start("-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process")
    with stack.client() as client:
        failed = client.create_flow_run_from_deployment(
            stack.deployments["cold"], name="third", parameters={"seconds": 0, "wrong": True}
        )
    stack.until_state("cold", "Failed")
    message = until(lambda: next((text for text in stack.told() if "third" in text), None))
    kill_family(worker.pid)

    assert "run third is Failed" in str(message)
    assert str(failed.id) in str(message)
    assert "a body that nobody may see" not in str(message)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_automations_installed_again_stay_as_they_are_and_paused_ones_stay_paused(stack: Stack) -> None:
    """A restart overrules nobody."""
    with stack.client() as client:
        before = client.read_automations()
        client.pause_automation(before[0].id)
    asyncio.run(install_automations(SecretStr(stack.sandbox.slack_webhook_url), unresponsive=SOON))
    with stack.client() as client:
        after = client.read_automations()
    asyncio.run(install_automations(SecretStr(stack.sandbox.slack_webhook_url), unresponsive=2 * SOON))
    with stack.client() as client:
        changed = client.read_automations()

    assert len(before) == 3
    assert {each.id for each in before} == {each.id for each in after} == {each.id for each in changed}
    assert [each.enabled for each in after if each.id == before[0].id] == [False]
    assert [each.enabled for each in changed if each.id == before[0].id] == [False]
