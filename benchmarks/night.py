"""A whole night, list to publish, through Prefect: from ten thousand to a million calls, three in a hundred missing.

Provider, Prefect, Postgres (fsync on) and the night have a process each, all on this machine. The yardstick is
the straightforward version: one page after the other, `json.loads`, a row at a time, one INSERT and one deduction for
each missing call.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine

from benchmarks.night_parts import ORGANIZATIONS, calls_of
from benchmarks.table import Figure
from billing.database import open_engine, rows, transaction, value
from billing.migrate import migrate
from calltally.sandbox.calls import Call
from calltally.sandbox.costs import costs_of
from calltally.sandbox.vapi import DEFAULT_API_KEY
from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.prefect_server import client_environment, ensure_prefect_database, server_child
from calltally.stack.supervisor import Supervisor

SIZES = (10_000, 100_000, 1_000_000)
BEARABLE = 10_000
"""Calls that the straightforward version is asked to reconcile."""
MISSING_EVERY = 33
LIMIT_SECONDS = 180
LIMIT_MEGABYTES = 1_500
PORT, PREFECT_PORT = 3985, 3984
ROOT = Path(__file__).parent.parent


def figures() -> Iterator[Figure]:
    """Seconds and memory at a million, growth, and the straightforward version."""
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder, _servers(Path(folder)) as server:
        measured = {size: _night(server, Path(folder), size) for size in SIZES}
        plain = _straightforward(server, BEARABLE)
    largest = measured[SIZES[-1]]
    yield Figure(f"a night of {SIZES[-1]:,} calls", largest["seconds"], LIMIT_SECONDS, "limit", " s")
    yield Figure("  peak memory of its process", largest["megabytes"], LIMIT_MEGABYTES, "limit", " MB")
    yield Figure("  until all is listed", largest["reached"]["listing"], largest["seconds"], "the whole night", " s")
    speeds = [(size, size / measured[size]["seconds"]) for size in SIZES]
    for (smaller, slow), (size, speed) in pairwise(speeds):
        yield Figure(f"calls/s at {size:,}", speed, slow, f"at {smaller:,}; 1 or more: no worse than linear")
    yield Figure(f"calls/s at {BEARABLE:,}", speeds[0][1], BEARABLE / plain, "straightforward, one by one")


@contextmanager
def _servers(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Postgres and Prefect."""
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    server.ensure_database("prefect_of")
    with asyncio.Runner() as loop:
        supervisor = Supervisor(folder / "logs")
        loop.run(supervisor.__aenter__())
        try:
            prefect_url = ensure_prefect_database(server.url("prefect_of"))
            loop.run(supervisor.start(server_child(_api_url(), prefect_url, folder)))
            yield server
        finally:
            loop.run(supervisor.__aexit__())
            server.stop("immediate")


def _night(server: EmbeddedPostgres, folder: Path, size: int) -> dict[str, Any]:
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    window_to = end + timedelta(hours=1)
    url = _books(server, size, end)
    environment = {
        **os.environ,
        **client_environment(_api_url(), folder),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "DATABASE_URL": url,
        "CALLTALLY_HOME": str(folder),
        "VAPI_API_KEY": DEFAULT_API_KEY,
        "VAPI_BASE_URL": f"http://127.0.0.1:{PORT}/vapi",
        "VAPI_REQUESTS_PER_SECOND": "0",
    }
    with _provider(size, end):
        measured = _child("night", window_to.isoformat(), env=environment)
    engine = open_engine(url)
    with transaction(engine) as connection:
        run = rows(connection, "SELECT * FROM reconciliation_runs")[0]
        broken = rows(connection, "SELECT * FROM check_books() LIMIT 3")
    engine.dispose()
    expected = len(range(0, size, MISSING_EVERY))
    if (run["recovered_calls"], run["ended_calls"], broken) != (expected, size, []):
        raise RuntimeError(f"{run['recovered_calls']} of {expected} recovered; broken: {broken}")
    return measured


def _books(server: EmbeddedPostgres, size: int, end: datetime) -> str:
    """The address of books that know all calls but the missing ones, each charged."""
    name = f"night_{size}"
    server.ensure_database(name)
    url = server.url(name)
    migrate(url)
    engine = open_engine(url)
    with transaction(engine) as connection:
        for number in range(ORGANIZATIONS):
            assistant = f"bench-{number}"
            organization = value(connection, "SELECT create_organization(:name, 'a@example.com')", name=assistant)
            rows(connection, "SELECT * FROM add_route(:id, 'assistant', :name)", id=organization, name=assistant)
            rows(
                connection, "SELECT * FROM credit_wallet(:id, 1000000000000000, :key)", id=organization, key=assistant
            )
    known = (call for number, call in enumerate(calls_of(size, end)) if number % MISSING_EVERY)
    while batch := [_as_told(call) for call in islice(known, 5000)]:
        with transaction(engine) as connection:
            value(connection, "SELECT count(*) FROM record_calls(CAST(:calls AS jsonb))", calls=json.dumps(batch))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET ROLE NONE")
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    return url


def _as_told(call: Call) -> Mapping[str, Any]:
    def moment(milliseconds: int | None) -> str | None:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()

    costs = costs_of(call)
    return {
        "id": call.id,
        "assistant_id": call.route.assistant_id,
        "created_at": moment(call.created_at_ms),
        "started_at": moment(call.started_at_ms),
        "ended_at": moment(call.ended_at_ms),
        "provider_cost_micros": int(costs.total * 1_000_000) if costs else None,
    }


def _straightforward(server: EmbeddedPostgres, size: int) -> float:
    """Seconds of what one would write down first; it has no proof, no findings and no report to make."""
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    url = _books(server, size + 1, end)  # other books than those of the night
    with _provider(size + 1, end), httpx.Client(base_url=f"http://127.0.0.1:{PORT}/vapi") as client:
        started = time.perf_counter()
        engine = open_engine(url)
        before = end
        while page := _page(client, before):
            for call in page:
                _reconcile_one(engine, call)
            before = datetime.fromisoformat(page[-1]["createdAt"])
        engine.dispose()
        return time.perf_counter() - started


def _page(client: httpx.Client, before: datetime) -> list[dict[str, Any]]:
    """The next older hundred, as most people page through such a list."""
    bounds: dict[str, str | int] = {"createdAtLt": before.isoformat(timespec="milliseconds"), "limit": 100}
    answer = client.get("/call", params=bounds, headers={"Authorization": f"Bearer {DEFAULT_API_KEY}"})
    page: list[dict[str, Any]] = json.loads(answer.raise_for_status().content, parse_float=Decimal)
    return page


def _reconcile_one(engine: Engine, call: Mapping[str, Any]) -> None:
    with transaction(engine) as connection:
        if value(connection, "SELECT 1 FROM calls WHERE id = :id", id=call["id"]):
            return
    told = {
        "id": call["id"],
        "assistant_id": call["assistantId"],
        "created_at": call["createdAt"],
        "started_at": call["startedAt"],
        "ended_at": call["endedAt"],
    }
    with transaction(engine) as connection:
        value(connection, "SELECT count(*) FROM record_calls(CAST(:calls AS jsonb), true)", calls=json.dumps([told]))


def _api_url() -> str:
    return f"http://127.0.0.1:{PREFECT_PORT}/api"


def _child(*arguments: str, env: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.night_parts", *arguments]
    output = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    answer: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return answer


@contextmanager
def _provider(size: int, end: datetime) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.night_parts", "provide", str(size), end.isoformat(), str(PORT)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        while not _answers():
            if process.poll() is not None:
                raise RuntimeError("the provider did not start")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers() -> bool:
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
    except OSError:
        return False
    return True
