"""`calltally up` as a person runs it: a process of its own, with an embedded Postgres and an empty home."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
from sqlalchemy import Engine

from billing.database import open_engine, rows, transaction
from billing.prefect_access import prefect_headers
from billing.settings import Settings
from calltally.stack.postgres import EmbeddedPostgres
from tests.books import Books

from .places import free_port

START_SECONDS = 240.0
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "prefect": "-m calltally.stack.prefect_server",
        "worker": "-m calltally worker",
        "nights": "-m prefect worker start",
        "receiver": "-m calltally receiver",
        "night": "-m prefect.engine",
        "guard": "stack/guard.py",
    }
)
"""What tells the processes apart; a night is there only while it runs."""
OF_OURS = ("CALLTALLY_", "DATABASE_URL", "PREFECT_", "RECEIVER_", "VAPI_", "STRIPE_", "SLACK_", "TWILIO_")


@dataclass(frozen=True)
class Installation:
    """One running `calltally up`."""

    home: Path
    environment: Mapping[str, str]
    receiver_port: int
    prefect_port: int
    process: subprocess.Popen[bytes]
    engine: Engine

    @property
    def receiver_url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.receiver_port}"

    @property
    def prefect_api_url(self) -> str:
        """Where runs are asked for."""
        return f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def prefect_headers(self) -> dict[str, str]:
        """What proves to Prefect that it is us."""
        return prefect_headers(Settings(_env_file=None, calltally_home=self.home))

    @property
    def postgres(self) -> EmbeddedPostgres:
        """Its database server."""
        return EmbeddedPostgres(self.home / "postgres")

    @property
    def books(self) -> Books:
        """The books."""
        return Books(self.engine)

    @property
    def output(self) -> str:
        """What it has said so far."""
        return (self.home / "up.out").read_text(errors="replace")

    def ask(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        with transaction(self.engine) as connection:
            return rows(connection, query, **parameters)

    def health(self) -> dict[str, Any] | None:
        """What /health says; None if nobody answers."""
        try:
            with httpx.Client(trust_env=False, timeout=5) as client:
                answer: dict[str, Any] = client.get(f"{self.receiver_url}/health").json()
        except (httpx.HTTPError, ValueError):
            return None
        return answer

    def is_healthy(self) -> bool:
        """Whether everything is there."""
        return (self.health() or {}).get("status") == "healthy"

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The running processes by name, `postgres` being the whole family, its postmaster first."""
        found: dict[str, list[psutil.Process]] = {"supervisor": [psutil.Process(self.process.pid)]}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                for name, words in COMMANDS.items():
                    if words in line:
                        found.setdefault(name, []).append(process)
        with suppress(psutil.Error, OSError, ValueError, IndexError):
            pid = int((self.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            postmaster = psutil.Process(pid)
            found["postgres"] = [postmaster, *postmaster.children(recursive=True)]
        return found

    def descendants(self) -> list[psutil.Process]:
        """Everything that belongs to it, the supervisor included."""
        return [process for family in self.processes().values() for process in family]


@contextmanager
def installed(home: Path, environment: Mapping[str, str]) -> Iterator[Installation]:
    """Run `calltally up` until the block ends; TimeoutError with its last words if it never becomes healthy."""
    receiver_port, prefect_port = free_port(), free_port()
    env = {
        **{name: text for name, text in os.environ.items() if not name.startswith(OF_OURS)},
        **environment,
        "CALLTALLY_ENV_FILE": os.devnull,
        "CALLTALLY_HOME": str(home),
        "RECEIVER_PORT": str(receiver_port),
        "PREFECT_SERVER_API_PORT": str(prefect_port),
    }
    engine = open_engine(EmbeddedPostgres(home / "postgres").url(), pool_size=4)
    process = start(home, env)
    installation = Installation(home, env, receiver_port, prefect_port, process, engine)
    try:
        _until_healthy(installation)
        yield installation
    finally:
        process.terminate()
        process.wait(timeout=90)
        engine.dispose()


def start(home: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start it; it need not be ready."""
    home.mkdir(exist_ok=True)
    with (home / "up.out").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "calltally", "up"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _until_healthy(installation: Installation) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not installation.is_healthy():
        if time.monotonic() > deadline or installation.process.poll() is not None:
            raise TimeoutError(f"calltally up is not healthy; it said:\n{installation.output[-3000:]}")
        time.sleep(0.5)
