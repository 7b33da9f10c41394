"""Postgres and a Prefect server that a test may stop and start, with calltally's own processes beside them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
from sqlalchemy import Engine

from billing.database import open_engine, rows, transaction
from billing.errors import DatabaseUnavailable
from billing.settings import Settings
from calltally.sandbox.calls import Call, Route
from calltally.sandbox.sending import Retries
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.traffic import Traffic
from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.prefect_server import client_environment, ensure_prefect_database, server_child
from calltally.stack.supervisor import Supervisor
from calltally.stack.up import running_stack
from tests.books import Books

from .places import DAY_END, DAY_START, free_port

PATIENCE_SECONDS = 240.0
STUBBORN = Retries((0.25,) * 400)
"""As a provider that never gives up, in a hurry."""


@dataclass
class House:
    """Where everything runs. Owns Postgres and the Prefect server; both can be taken away."""

    home: Path
    postgres: EmbeddedPostgres
    prefect_api_url: str
    receiver_port: int
    sandbox: RunningSandbox
    engine: Engine
    _prefect: list[Supervisor] = field(default_factory=list)

    @property
    def receiver_url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.receiver_port}"

    @property
    def settings(self) -> Settings:
        """What the whole stack is started with."""
        return Settings(
            _env_file=None,
            database_url=self.postgres.url(),
            prefect_api_url=self.prefect_api_url,
            calltally_home=self.home,
            receiver_port=self.receiver_port,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What each process alone is started with."""
        return {
            **client_environment(self.prefect_api_url, self.home),
            **self.sandbox.environment(),
            "DATABASE_URL": self.postgres.url(),
            "CALLTALLY_HOME": str(self.home),
            "RECEIVER_PORT": str(self.receiver_port),
        }

    @property
    def books(self) -> Books:
        """The books."""
        return Books(self.engine)

    async def start_prefect(self) -> None:
        """Start the Prefect server and wait until it answers."""
        database_url = await asyncio.to_thread(ensure_prefect_database, self.postgres.url())
        supervisor = await Supervisor(self.home / "logs").__aenter__()
        self._prefect.append(supervisor)
        await supervisor.start(server_child(self.prefect_api_url, database_url, self.home))

    async def stop_prefect(self) -> None:
        """Stop it, if it runs."""
        while self._prefect:
            await self._prefect.pop().__aexit__()

    def wipe_prefect(self) -> None:
        """Throw away all that the stopped server knew."""
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE calltally_prefect WITH (FORCE)")

    def open_wallet(self, assistant: str = "asst-acme") -> None:
        """An organization with money for every call, and a route."""
        organization_id = self.books.organization(f"Owner of {assistant}")
        self.books.credit(organization_id, 1_000_000_000_000, f"topup:pi_{assistant}")
        self.books.route(organization_id, assistant)

    def place_calls(self, count: int, assistant: str = "asst-acme") -> list[Call]:
        """Calls at the provider that all connected and ended."""
        route = Route(assistant_id=assistant)
        return self.sandbox.vapi.place_calls(
            Traffic(count, (route,), DAY_START, DAY_END, never_connected_share=0.0, detail="slim")
        )

    async def deliver(self, calls: list[Call]) -> dict[str, int]:
        """Send all webhooks of the calls until each is accepted; how many deliveries ended with which status."""
        delivered = await asyncio.to_thread(
            self.sandbox.sandbox.deliver_calls, calls, url=f"{self.receiver_url}/webhooks/vapi", retries=STUBBORN
        )
        return delivered.report.final_statuses

    async def until(self, query: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the query answers true; meanwhile the database may be away."""
        async with asyncio.timeout(patience_seconds):
            while not await asyncio.to_thread(self._holds, query):  # noqa: ASYNC110 - it is in Postgres
                await asyncio.sleep(0.1)

    async def until_some_arrived(self, delivery: "asyncio.Task[dict[str, int]]") -> None:
        """Wait until webhooks of a delivery have arrived; most of it is still on its way."""
        before = self.ask("SELECT count(*) AS events FROM events")[0]["events"]
        await self.until(f"SELECT count(*) > {before} + 20 FROM events")
        assert not delivery.done()

    async def until_applied(self) -> None:
        """Wait until nothing waits, is active or is delayed."""
        await self.until("SELECT count(*) = 0 FROM events WHERE state IN ('waiting', 'active', 'delayed')")

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        with transaction(self.engine) as connection:
            return rows(connection, query)

    def _holds(self, query: str) -> bool:
        try:
            return bool(next(iter(self.ask(query)[0].values())))
        except DatabaseUnavailable:
            return False


@asynccontextmanager
async def open_house(home: Path, sandbox: RunningSandbox) -> AsyncIterator[House]:
    """Start Postgres and the Prefect server with empty databases; stop them at the end."""
    postgres = EmbeddedPostgres(home / "postgres")
    await asyncio.to_thread(postgres.start)
    postgres.ensure_database("calltally")
    engine = open_engine(postgres.url(), pool_size=2)
    house = House(home, postgres, f"http://127.0.0.1:{free_port()}/api", free_port(), sandbox, engine)
    try:
        await house.start_prefect()
        yield house
    finally:
        await house.stop_prefect()
        engine.dispose()
        await asyncio.to_thread(postgres.stop, "immediate")


@asynccontextmanager
async def everything(house: House) -> AsyncIterator[None]:
    """All of calltally's processes, kept alive as `calltally up` does."""
    async with running_stack(house.settings, env=house.sandbox.environment(), quiet=True):
        yield


def processes(*words: str) -> list[psutil.Process]:
    """The descendants of this process whose command line holds these words in a row."""
    wanted = " ".join(words)
    return [child for child in psutil.Process().children(recursive=True) if wanted in " ".join(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return command


class Mortal:
    """One process of calltally that is started again after each kill."""

    def __init__(
        self, verb: str, environment: Mapping[str, str], log: Path, *, program: Sequence[str] = ("-m", "calltally")
    ) -> None:
        """`program`: what Python runs, with the verb as its argument."""
        self.verb = verb
        self._program = program
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it need not be ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._program, self.verb],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def is_dead(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL to it and all its children; no farewell."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
