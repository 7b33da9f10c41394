"""Two Prefect servers share one Postgres and one Redis, with the settings that docs/scale.md names."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from prefect.events.clients import PrefectEventSubscriber
from prefect.events.filters import EventFilter, EventNameFilter

from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.prefect_server import client_environment, ensure_prefect_database, server_child
from calltally.stack.supervisor import Child, Supervisor
from tests.scenarios.places import free_port

from .peers import needs
from .places import ROOT, unknown_settings

SCALE = ROOT / "docs" / "scale.md"
HELLO = """
from prefect import flow, task
from prefect.runtime import flow_run

@task
def say():
    pass

@flow
def hello():
    say()
    return flow_run.id

print(hello())
"""
OF_REDIS = {"PREFECT_REDIS_MESSAGING_URL"}
"""Read by prefect-redis, not by Prefect."""


def documented_settings() -> dict[str, str]:
    """The block of settings in docs/scale.md that mentions the broker."""
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", SCALE.read_text(), re.DOTALL) if "BROKER" in block]
    return dict(re.findall(r"^(?:export )?(PREFECT_[A-Z_]+)=(\S+)", block, re.MULTILINE))


def test_documented_settings_are_read_by_prefect_and_its_modules_exist() -> None:
    """A misspelt one would leave each server with a memory of its own, in silence."""
    settings = documented_settings()
    modules = [content for content in settings.values() if content.startswith("prefect_redis.")]

    assert unknown_settings(set(settings) - OF_REDIS) == set()
    assert set(settings) >= OF_REDIS
    for module in modules:
        __import__(module)
    assert len(modules) == 4


@contextmanager
def running_redis(home: Path) -> Iterator[str]:
    """A Redis of our own; its address."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as process:
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


@asynccontextmanager
async def prefect_server(home: Path, database_url: str, settings: dict[str, str]) -> AsyncIterator[str]:
    """One more server on the same database; its address."""
    api_url = f"http://127.0.0.1:{free_port()}/api"
    child = server_child(api_url, database_url, home)
    known = Child(child.name, child.command, {**child.env, **settings}, child.ready, child.ready_timeout_seconds)
    async with Supervisor(home / "logs") as supervisor:
        await supervisor.start(known)
        yield api_url


async def run_hello(api_url: str, home: Path) -> str:
    """Run a flow with a task in a process of its own, as its events go to one server all its life; the run's id."""
    env = {**os.environ, **client_environment(api_url, home), "PREFECT_LOGGING_LEVEL": "ERROR"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HELLO, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, complaints = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, complaints.decode()
    return output.decode().strip()


async def recorded_tasks(api_url: str, flow_run_id: str) -> list[str]:
    """The states of the task runs of a run, as this server knows them; they arrive through the broker."""
    wanted = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
    async with httpx.AsyncClient(trust_env=False) as client:
        async with asyncio.timeout(60):
            while True:
                known = (await client.post(f"{api_url}/task_runs/filter", json=wanted)).json()
                states = [task_run["state_type"] for task_run in known]
                if states == ["COMPLETED"]:
                    return states
                await asyncio.sleep(0.2)


async def seen_from(api_url: str, event: str, *, within_seconds: float = 60) -> str:
    """The id of the resource of the first such event in this server's stream, which only the broker fills."""
    chosen = EventFilter(event=EventNameFilter(name=[event]))
    async with asyncio.timeout(within_seconds), PrefectEventSubscriber(api_url, chosen) as stream:
        async for seen in stream:
            return seen.resource.id
    raise AssertionError(f"{event} never came")


async def renew_elsewhere(first: str, second: str) -> int:
    """What the second server says to the renewal of a slot that the first one leased."""
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(f"{first}/v2/concurrency_limits/", json={"name": "one", "limit": 1})
        wanted = {"names": ["one"], "slots": 1, "lease_duration": 60}
        leased = await client.post(f"{first}/v2/concurrency_limits/increment-with-lease", json=wanted)
        renewal = f"{second}/v2/concurrency_limits/leases/{leased.json()['lease_id']}/renew"
        return (await client.post(renewal, json={"lease_duration": 60})).status_code


@pytest.mark.slow
@pytest.mark.timeout(500)
@needs("redis-server")
def test_two_servers_with_redis_know_of_each_others_runs() -> None:
    """Events and leases of one are the other's too; a run is recorded, and goes on when the first one is gone."""

    async def scenario(home: Path, database_url: str, settings: dict[str, str]) -> None:
        async with prefect_server(home / "b", database_url, settings) as second:
            async with prefect_server(home / "a", database_url, settings) as first:
                seen = asyncio.create_task(seen_from(second, "prefect.flow-run.Completed"))
                flow_run_id = await run_hello(first, home / "client")
                assert await seen == f"prefect.flow-run.{flow_run_id}"
                assert await renew_elsewhere(first, second) == 204
                assert await recorded_tasks(second, flow_run_id) == ["COMPLETED"]
            flow_run_id = await run_hello(second, home / "client")
            assert await recorded_tasks(second, flow_run_id) == ["COMPLETED"]

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ct-")))
        redis_url = stack.enter_context(running_redis(home))
        postgres = EmbeddedPostgres(home / "postgres", options={"fsync": "off"})
        stack.callback(postgres.stop, "immediate")
        postgres.start()
        postgres.ensure_database("calltally")
        settings = {
            name: re.sub(r"^redis://[^/]+", redis_url, content) for name, content in documented_settings().items()
        }
        asyncio.run(scenario(home, ensure_prefect_database(postgres.url()), settings))
