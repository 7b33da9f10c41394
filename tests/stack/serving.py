"""A Prefect server with our automations, and what happens to runs there."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil  # type: ignore[import-untyped]
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings

from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox
from calltally.stack.automations import Patience
from calltally.stack.deployments import FIXED_JOB, WORKERS
from calltally.stack.prefect_server import client_environment, ensure_prefect_database, server_child
from calltally.stack.run_watch import RunWatch
from tests.databases import new_database
from tests.night.served import running_switchboard
from tests.stack.sleeping import sleeping

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SOON = timedelta(seconds=10)
"""The least that Prefect allows for waiting in vain."""
IMPATIENT = Patience(lost=SOON, unstarted=6 * SOON, unwatched=SOON, forgotten=SOON, late_night=SOON)
"""A process of ours takes its time to begin."""
PATIENCE_SECONDS = 240.0


@dataclass
class Stack:
    """A Prefect server, deployments, and processes to kill."""

    env: dict[str, str]
    sandbox: RunningSandbox
    deployments: dict[str, UUID] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    watch: RunWatch = field(default_factory=RunWatch)
    serve: Callable[[], subprocess.Popen[bytes]] | None = None
    server: subprocess.Popen[bytes] | None = None

    def start(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """A process of this stack."""
        process = subprocess.Popen([sys.executable, *command], env={**self.env, **env}, cwd=ROOT)
        self.processes.append(process)
        return process

    def client(self) -> SyncPrefectClient:
        """A client of the server."""
        return get_client(sync_client=True)

    def start_server(self) -> None:
        """Kill the server if it is there, start it, and wait until it answers."""
        assert self.serve is not None
        if self.server is not None:
            kill_family(self.server.pid)
            self.server.wait()
        self.server = self.serve()
        self.processes.append(self.server)
        until(lambda: answers(f"{self.env['PREFECT_API_URL']}/ready"))

    def look(self, **later: float) -> None:
        """What a worker does every half minute, now or in so much time."""
        asyncio.run(self.watch.look(datetime.now(UTC) + timedelta(**later)))

    def deploy(
        self,
        name: str,
        pool: str,
        flow: Flow[..., Any] = sleeping,
        description: str = "",
        *,
        limit: int | None = None,
    ) -> None:
        """A deployment that sleeps, under the name of one of our flows if wanted."""
        with self.client() as client:
            self.deployments[name] = client.create_deployment(
                client.create_flow(flow),
                name=name,
                description=description,
                entrypoint="tests.stack.sleeping.sleeping",
                concurrency_limit=limit,
                tags=["calltally"],
                work_pool_name=pool,
                pull_steps=[],
            )

    def run(self, deployment: str, name: str, *states: State[Any], by_hand: bool = False) -> UUID:
        """A run that goes through these states without anybody running it; its id."""
        with self.client() as client:
            run = client.create_flow_run_from_deployment(
                self.deployments[deployment], name=name, state=states[0], tags=[] if by_hand else ["auto-scheduled"]
            )
            for state in states[1:]:
                client.set_flow_run_state(run.id, state, force=True)
        return run.id

    def runs(self, deployment: str) -> list[FlowRun]:
        """The runs of a deployment."""
        with self.client() as client:
            return [run for run in client.read_flow_runs() if run.deployment_id == self.deployments[deployment]]

    def until_state(self, deployment: str, state: str, *, watched: bool = False) -> FlowRun:
        """The first run of a deployment, once it is in this state; while a worker watches, if wanted."""

        def known() -> FlowRun | None:
            if watched:
                self.look()
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


@contextmanager
def serving(postgres_url: str, home: Path, *, auth_string: str | None = None, pools: bool = True) -> Iterator[Stack]:
    """A stack of its own, which looks for what is absent every second; with `auth_string` for a password."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        api_url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    home.mkdir(exist_ok=True)
    environment = client_environment(api_url, home, auth_string=auth_string)
    env = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    changes = {PREFECT_API_URL: api_url, PREFECT_HOME: home, PREFECT_API_AUTH_STRING: auth_string}
    with ExitStack() as exits:
        books_url = exits.enter_context(new_database(postgres_url))  # the server's lies beside it, and is new as well
        server = server_child(api_url, ensure_prefect_database(books_url), home, auth_string=auth_string)
        sandbox = exits.enter_context(running_switchboard()).show(Sandbox(seed=7))
        exits.enter_context(temporary_settings(changes))
        stack = Stack(env, sandbox)
        exits.callback(stack.kill)
        quick = {**os.environ, **server.env, "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S"}
        stack.serve = lambda: subprocess.Popen(server.command, env=quick, cwd=home)
        stack.start_server()
        with stack.client() as client:
            for pool, worker in WORKERS.items() if pools else ():
                client.create_work_pool(WorkPoolCreate(name=pool, type=worker.type, base_job_template=FIXED_JOB))
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
