"""A whole night, list to publish, through Prefect: from ten thousand to a million calls, three in a hundred missing.

Provider, Prefect, Postgres (fsync on) and the night have a process each, all on this machine. The yardstick is
the straightforward version: one page after the other, `json.loads`, tables compared row by row, one INSERT and one
deduction for each missing call.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from benchmarks.night_parts import ORGANIZATIONS, calls_of
from benchmarks.serving import serving
from benchmarks.straightforward import reconcile
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
BEARABLE = SIZES[1]
"""Calls that the straightforward version is asked to reconcile."""
MISSING_EVERY = 33
LIMIT_SECONDS = 180
LIMIT_MEGABYTES = 1_500
LINEAR = f"at {SIZES[0]:,}; 1 or less: no worse than linear"
PORT, PREFECT_PORT = 3985, 3984
PROVIDER = f"http://127.0.0.1:{PORT}/vapi"
AUTHORIZED = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}
ROOT = Path(__file__).parent.parent


def figures() -> Iterator[Figure]:
    """The largest night, memory and cost per call at every size, and the straightforward version."""
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder, _servers(Path(folder)) as server:
        measured = {size: _night(server, Path(folder), size) for size in SIZES}
        plain = _straightforward(server, BEARABLE)
    yield from _largest(measured[SIZES[-1]])
    for size, night in measured.items():
        yield Figure(f"peak memory at {size:,}", night["megabytes"], LIMIT_MEGABYTES, "limit", " MB")
    costs = {
        size: (night["seconds"] / size * 1e6, night["cpu_seconds"] / size * 1e6) for size, night in measured.items()
    }
    for size, (time_each, cpu_each) in costs.items():
        yield Figure(f"time per call at {size:,}", time_each, costs[SIZES[0]][0], LINEAR, " µs")
        yield Figure("  CPU of its process per call", cpu_each, time_each, "its time", " µs")
    yield Figure(
        f"calls/s at {BEARABLE:,}", 1e6 / costs[BEARABLE][0], BEARABLE / plain, "straightforward, one by one"
    )


def _largest(night: dict[str, Any]) -> Iterator[Figure]:
    """How long it takes, and when its memory peaks."""
    yield Figure(f"a night of {SIZES[-1]:,} calls", night["seconds"], LIMIT_SECONDS, "limit", " s")
    for step, seconds in night["reached"].items():
        yield Figure(f"  time at its step '{step}'", seconds, night["seconds"], "the whole night", " s")
        yield Figure(
            "  peak memory until then", night["peaks"][step], night["megabytes"], "of the whole night", " MB"
        )


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
    url = _books(server, size, end, name=f"night_{size}")
    environment = {
        **os.environ,
        **client_environment(_api_url(), folder),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "DATABASE_URL": url,
        "CALLTALLY_HOME": str(folder),
        "VAPI_API_KEY": DEFAULT_API_KEY,
        "VAPI_BASE_URL": PROVIDER,
        "VAPI_REQUESTS_PER_SECOND": "0",
    }
    with serving(*_provider(size, end)):
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


def _books(server: EmbeddedPostgres, size: int, end: datetime, name: str) -> str:
    """The address of books that know all calls but the missing ones, each charged."""
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
    """Seconds of what one would write down first."""
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    url = _books(server, size, end, name="straightforward")
    engine = open_engine(url, role=None)  # only functions of ours may record calls otherwise
    with serving(*_provider(size, end)), httpx.Client(base_url=PROVIDER, headers=AUTHORIZED) as client:
        started = time.perf_counter()
        billed = reconcile(engine, client, end)
        seconds = time.perf_counter() - started
    with transaction(engine) as connection:
        recorded = value(connection, "SELECT count(*) FROM calls WHERE reconciled")
        charged = value(connection, "SELECT count(*) FROM charges WHERE accepted")
        broken = rows(connection, "SELECT * FROM check_books() WHERE name = 'stored_balance_equals_transfers'")
    engine.dispose()
    expected = len(range(0, size, MISSING_EVERY))
    if (billed, recorded, charged, broken) != (expected, expected, size, []):
        raise RuntimeError(
            f"{billed} of {expected} billed, {recorded} recorded, {charged} of {size} charged; {broken}"
        )
    return seconds


def _api_url() -> str:
    return f"http://127.0.0.1:{PREFECT_PORT}/api"


def _child(*arguments: str, env: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.night_parts", *arguments]
    output = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    answer: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return answer


def _provider(size: int, end: datetime) -> tuple[int, str, str, str, str, str]:
    """Where it listens, and the program that is it."""
    return PORT, "benchmarks.night_parts", "provide", str(size), end.isoformat(), str(PORT)
