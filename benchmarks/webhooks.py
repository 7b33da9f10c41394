"""The webhook path under load: each layer's price, measured against the same path with that layer left out.

Everything is on this machine, the load generator included; Postgres is a private durable cluster (fsync on).
"""

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import uvloop
from pydantic import SecretStr

from benchmarks.books import pgbench
from benchmarks.load import Load, hammer, http_request
from benchmarks.serving import serving
from benchmarks.table import Figure
from billing import applying, inbox
from billing.database import open_engine, rows, transaction, value
from billing.deliveries import identify_vapi
from billing.migrate import migrate
from billing.settings import Settings
from calltally.sandbox.calls import Route
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_webhooks import end_of_call_report
from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.sharing import DATABASE_NAME, embedded_postgres
from calltally.stack.up import running_stack

SECRET = "bench"  # noqa: S105 - opens nothing but this run
REQUESTS = 20_000
CONNECTIONS = 32
BACKLOG = 50_000
ORGANIZATIONS = 100
STEADY_PER_SECOND = 50
STEADY_SECONDS = 20
PORT = 3987

PLAIN_INSERT = """
\\set n random(1, 1000000000)
WITH stored AS (
    INSERT INTO events (provider, delivery_key, type) VALUES ('vapi', 'k' || :n || random(), 'x')
    RETURNING received_at, id
)
INSERT INTO event_bodies SELECT received_at, id, decode(repeat('7b', 9000), 'hex') FROM stored;
"""


def figures() -> Iterator[Figure]:
    """Acknowledging, then applying."""
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder:
        yield from _acknowledging(Path(folder) / "ack")
        yield from _applying(Path(folder) / "apply")


def _acknowledging(home: Path) -> Iterator[Figure]:
    home.mkdir()
    server = EmbeddedPostgres(home / "postgres")
    server.start()
    server.ensure_database(DATABASE_NAME)
    url = server.url(DATABASE_NAME)
    migrate(url)
    environment = {"DATABASE_URL": url, "VAPI_WEBHOOK_SECRETS": SECRET, "RECEIVER_PORT": str(PORT)}
    with serving(PORT, "calltally", "receiver", **environment):
        alone = _load("alone", 500, 1)
        crowd = _load("crowd", REQUESTS, CONNECTIONS)
    with serving(PORT, "benchmarks.null_receiver", **environment):
        bare = _load("bare", REQUESTS, CONNECTIONS)
    inserts = _pgbench(server, home)
    server.stop("immediate")
    yield Figure(f"acknowledge, {CONNECTIONS} connections", crowd.per_second, bare.per_second, "insert left out")
    yield Figure(f"acknowledge, {CONNECTIONS} connections", crowd.per_second, inserts, "pgbench, one INSERT each")
    yield Figure("acknowledge, p99", crowd.quantile_ms(0.99), bare.quantile_ms(0.99), "insert left out", " ms")
    yield Figure("acknowledge alone, p99", alone.quantile_ms(0.99), 5, "limit", " ms")


def _applying(home: Path) -> Iterator[Figure]:
    without_prefect = _drain_without_prefect(home / "bare")
    spoiled, clean = _apply_with_poison(home / "poison")
    yield Figure("1,000 events with a poison among them", spoiled, clean, "without the poison", " ms")
    settings = Settings(
        _env_file=None,
        database_url=None,
        prefect_api_url=None,
        calltally_home=home / "stack",
        receiver_port=PORT,
        vapi_webhook_secrets=(SecretStr(SECRET),),
    )
    with embedded_postgres(settings.calltally_home) as server:
        _fill(_prepared(server), BACKLOG)
    drained, latencies, memory = asyncio.run(_with_stack(settings))
    yield Figure(f"apply a backlog of {BACKLOG:,}", drained, without_prefect, "without Prefect")
    yield Figure(f"webhook to books at {STEADY_PER_SECOND}/s, p50", latencies[0], 500, "limit", " ms")
    yield Figure(f"webhook to books at {STEADY_PER_SECOND}/s, p99", latencies[1], 1000, "limit", " ms")
    yield Figure("worker's memory at the end", memory[1], memory[0], "half way through the backlog", " MB")


async def _with_stack(settings: Settings) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Events/s of the backlog, median and 99th percentile in ms of a steady stream after it, memory in MB."""
    async with running_stack(
        settings, env={"VAPI_WEBHOOK_SECRETS": SECRET}, quiet=True, prefect_port=PORT + 1
    ) as stack:
        engine = open_engine(stack.database_url)

        def ask(query: str) -> dict[str, Any]:
            with transaction(engine) as connection:
                return rows(connection, query)[0]

        half_way = 0.0
        while left := ask("SELECT count(*) AS n FROM events WHERE finished_at IS NULL")["n"]:
            if not half_way and left <= BACKLOG / 2:
                half_way = _worker_megabytes()
            await asyncio.sleep(0.1)
        drained = ask(
            "SELECT count(*) / extract(epoch FROM max(finished_at) - min(finished_at)) AS rate FROM events"
            " WHERE finished_at > (SELECT min(finished_at) FROM events)"
        )["rate"]
        await asyncio.sleep(5)  # Prefect still records what it has seen
        for request in _requests("steady", STEADY_PER_SECOND * STEADY_SECONDS):
            await asyncio.gather(hammer(PORT, [request], 1), asyncio.sleep(1 / STEADY_PER_SECOND))
        steady = "FROM events WHERE delivery_key LIKE 'steady%'"
        while ask(f"SELECT count(*) AS n {steady} AND finished_at IS NULL")["n"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        quantiles = ask(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY finished_at - received_at) AS p50,"
            f" percentile_cont(0.99) WITHIN GROUP (ORDER BY finished_at - received_at) AS p99 {steady}"
        )
        engine.dispose()
        memory = half_way, _worker_megabytes()
    p50, p99 = (quantiles[name].total_seconds() * 1000 for name in ("p50", "p99"))
    return float(drained), (p50, p99), memory


def _worker_megabytes() -> float:
    """Resident memory of the stack's worker."""
    family = psutil.Process().children(recursive=True)
    return float(max(process.memory_info().rss for process in family if "worker" in process.cmdline()[-1:])) / 1e6


def _drain_without_prefect(home: Path) -> float:
    with embedded_postgres(home) as server:
        url = _prepared(server)
        _fill(url, BACKLOG)
        engine = open_engine(url)
        started = time.perf_counter()
        while events := inbox.claim(engine, "bench", 2000):
            applying.apply_batch(engine, events)
        seconds = time.perf_counter() - started
        engine.dispose()
    return BACKLOG / seconds


def _apply_with_poison(home: Path) -> tuple[float, float]:
    """Milliseconds until the last good event is applied, with an event among them that always fails, and without."""
    with embedded_postgres(home) as server:
        url = _prepared(server)
        owner, engine = open_engine(url, role=None), open_engine(url)
        with transaction(owner) as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION be_poison() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = '40001'; END $$;"
                "CREATE TRIGGER poison BEFORE INSERT ON calls FOR EACH ROW WHEN (new.id = 'poison')"
                " EXECUTE FUNCTION be_poison()"
            )

        def measured(tag: str) -> float:
            bodies = list(_bodies(tag, 1000))
            # In the middle, where halving takes longest to find it.
            bodies[500] = bodies[500].replace(_call_id("spoiled", 500), b"poison")
            inbox.accept(engine, [identify_vapi(body) for body in bodies])
            events = inbox.claim(engine, "bench", 2000)
            started = time.perf_counter()
            applied = applying.apply_batch(engine, events)
            milliseconds = (time.perf_counter() - started) * 1000
            if len(applied.failures) != (tag == "spoiled"):
                raise RuntimeError(f"{len(applied.failures)} events failed: one does if there is a poison, else none")
            return milliseconds

        measured("warm")
        figures = measured("spoiled"), measured("clean")
        owner.dispose()
        engine.dispose()
    return figures


def _prepared(server: EmbeddedPostgres) -> str:
    """The address of a migrated database with organizations, routes and full wallets."""
    server.ensure_database(DATABASE_NAME)
    url = server.url(DATABASE_NAME)
    migrate(url)
    engine = open_engine(url)
    with transaction(engine) as connection:
        for number in range(ORGANIZATIONS):
            name = f"bench-{number}"
            organization = value(connection, "SELECT create_organization(:name, 'a@example.com')", name=name)
            rows(connection, "SELECT * FROM add_route(:id, 'assistant', :name)", id=organization, name=name)
            rows(connection, "SELECT * FROM credit_wallet(:id, 1000000000000, :name)", id=organization, name=name)
    engine.dispose()
    return url


def _fill(url: str, count: int) -> None:
    engine = open_engine(url)
    deliveries = [identify_vapi(body) for body in _bodies("backlog", count)]
    for start in range(0, count, 1000):
        inbox.accept(engine, deliveries[start : start + 1000])
    engine.dispose()


def _bodies(tag: str, count: int) -> Iterator[bytes]:
    """End-of-call reports, each of another call; the ids are as long as Vapi's."""
    now = datetime.now(UTC)
    routes = tuple(Route(assistant_id=f"bench-{number}") for number in range(ORGANIZATIONS))
    traffic = Traffic(ORGANIZATIONS, routes, now - timedelta(hours=2), now, never_connected_share=0.0, detail="small")
    calls = VapiWorld().place_calls(traffic)
    reports = [(call.id.encode(), end_of_call_report(call).body) for call in calls]
    for number in range(count):
        call_id, report = reports[number % len(reports)]
        yield report.replace(call_id, _call_id(tag, number))


def _call_id(tag: str, number: int) -> bytes:
    return f"{tag}-{number:0{35 - len(tag)}d}".encode()


def _requests(tag: str, count: int) -> list[bytes]:
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    return [http_request("/webhooks/vapi", headers, body) for body in _bodies(tag, count)]


def _load(tag: str, count: int, connections: int) -> Load:
    return uvloop.run(hammer(PORT, _requests(tag, count), connections))


def _pgbench(server: EmbeddedPostgres, folder: Path) -> float:
    """Transactions per second of one INSERT of the same size each, at the same number of connections."""
    script = folder / "insert.sql"
    script.write_text(PLAIN_INSERT)
    command = [pgbench(), "--no-vacuum", "--protocol=prepared", "--file", str(script), "--time", "5"]
    command += ["--client", str(CONNECTIONS), "--jobs", "2", server.url(DATABASE_NAME)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"tps = ([\d.]+)", result.stdout)
    return float(found[1]) if found else 0.0
