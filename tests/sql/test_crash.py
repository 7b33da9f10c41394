"""Postgres is killed under load: what was acknowledged is there, and the books check."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from uuid import UUID, uuid4

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres

WRITERS = 8
BEFORE_KILL = 150  # acknowledged writes to wait for, so that the kill comes in the middle of the load


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A private, durable cluster of our own to kill."""
    with tempfile.TemporaryDirectory(prefix="calltally-crash-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        server.start()
        server.ensure_database("crash")
        migrate(server.url("crash"))
        yield server
        server.stop("immediate")


def kill(server: EmbeddedPostgres) -> None:
    """kill -9 for the postmaster and all of its children, and nothing else."""
    postmaster = psutil.Process(int((server.data_directory / "postmaster.pid").read_text().split()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def write_until_killed(url: str, ids: list[UUID], enough: Event, acknowledged: list[str]) -> None:
    """Deduct and credit until the connection breaks; note each key once its commit was answered."""
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        while True:
            organization_id, name = ids[len(acknowledged) % len(ids)], uuid4().hex
            connection.execute("SELECT deduct_call_credits(%s, %s, 1000)", [organization_id, name])
            acknowledged.append(f"call:{name}")
            connection.execute("SELECT credit_wallet(%s, 700, %s)", [organization_id, f"topup:{name}"])
            acknowledged.append(f"topup:{name}")
            if len(acknowledged) >= BEFORE_KILL:
                enough.set()


def crash_and_check(server: EmbeddedPostgres, ids: list[UUID]) -> None:
    """Kill the server under load, start it again, and look for everything that was acknowledged."""
    enough, acknowledged = Event(), list[str]()
    with ThreadPoolExecutor(WRITERS) as writers:
        url = server.url("crash")
        running = [writers.submit(write_until_killed, url, ids, enough, acknowledged) for _ in range(WRITERS)]
        assert enough.wait(timeout=60)
        kill(server)
    for writer in running:
        writer.result()

    server.start()

    with psycopg.connect(server.url("crash")) as connection:
        booked = connection.execute("SELECT idempotency_key FROM transfers UNION SELECT idempotency_key FROM charges")
        missing = set(acknowledged) - {key for (key,) in booked}
        assert missing == set()
        assert connection.execute("SELECT * FROM check_books()").fetchall() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [20])
def test_killed_server_keeps_what_it_acknowledged(server: EmbeddedPostgres, times: int) -> None:
    """After each recovery nothing acknowledged is missing and no invariant is broken."""
    with psycopg.connect(server.url("crash")) as connection:
        query = "SELECT create_organization('o' || n, 'a@example.com') FROM generate_series(1, 10) AS n"
        ids = [organization_id for (organization_id,) in connection.execute(query)]

    for _ in range(times):
        crash_and_check(server, ids)
