"""The services of the compose file as plain processes: the same commands, settings, logins and health checks."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import errors

from billing.database import open_engine
from calltally.sandbox.calls import Route
from calltally.sandbox.sending import Retries
from calltally.sandbox.server import RunningSandbox, running_sandbox
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.world import Sandbox
from calltally.stack.postgres import EmbeddedPostgres, _binary
from tests.books import Books
from tests.scenarios.places import DAY_END, DAY_START, free_port

from .places import DEPLOYMENTS
from .test_compose import FILLED, compose

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PASSWORDS = {
    "CALLTALLY_DB_PASSWORD": "service-secret",
    "CALLTALLY_RECEIVER_DB_PASSWORD": "receiver-secret",
    "CALLTALLY_WORKER_DB_PASSWORD": "worker-secret",
    "CALLTALLY_NIGHTS_DB_PASSWORD": "nights-secret",
    "PREFECT_DB_PASSWORD": "prefect-secret",
}


class Installation:
    """A PostgreSQL with the logins of the compose file, and its services beside it."""

    def __init__(self, home: Path, secrets: Mapping[str, str]) -> None:
        self.home = home
        self.secrets = secrets
        self.postgres = EmbeddedPostgres(home / "postgres", options={"fsync": "off"})
        self.services: dict[str, Any] = compose({**FILLED, **PASSWORDS})["services"]
        self.ports = {name: str(free_port()) for name in ("4200", "3001", "8080", "9464")}
        self.receiver_url = f"http://127.0.0.1:{self.ports['3001']}"

    def make_logins(self) -> None:
        """As PostgreSQL's image does with the files of /docker-entrypoint-initdb.d."""
        self.postgres.start()
        self.postgres.ensure_database("calltally")
        psql = [_binary("psql"), "--set", "ON_ERROR_STOP=1", "--no-psqlrc", self.postgres.url("calltally")]
        script = ["--file", str(DEPLOYMENTS / "postgres" / "logins.sql")]
        subprocess.run([*psql, *script], env={**os.environ, **PASSWORDS}, check=True, capture_output=True, timeout=60)

    def environment(self, service: str) -> dict[str, str]:
        """What the service gets, with the addresses of this machine."""
        place = f"?host={self.postgres.socket_directory}"
        moved = {
            name: content.replace("@postgres:5432", "@").replace("//prefect:4200", "//127.0.0.1:4200")
            for name, content in self.services[service]["environment"].items()
        }
        for name in ("DATABASE_URL", "PREFECT_API_DATABASE_CONNECTION_URL"):
            if moved.get(name):
                moved[name] += place
        local = {
            "PREFECT_API_URL": moved["PREFECT_API_URL"].replace("4200", self.ports["4200"]),
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": self.ports["4200"],
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": self.ports["8080"],
            "WORKER_METRICS_HOST": "127.0.0.1",
            "WORKER_METRICS_PORT": self.ports["9464"],
            "RECEIVER_HOST": "127.0.0.1",
            "RECEIVER_PORT": self.ports["3001"],
            "CALLTALLY_HOME": str(self.home),
            "PREFECT_HOME": str(self.home / f"prefect-{service}"),
        }
        return {**os.environ, **self.secrets, **moved, **local}

    def command(self, words: list[str]) -> list[str]:
        """`calltally …` as the image's entrypoint has it."""
        return [sys.executable, "-m", "calltally", *words]

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start it; its output goes into a file."""
        with (self.home / f"{service}.log").open("wb") as log:
            return subprocess.Popen(
                self.command(self.services[service]["command"]),
                env=self.environment(service),
                cwd=self.home,
                stdout=log,
                stderr=log,
            )

    def is_healthy(self, service: str) -> bool:
        """What its health check says."""
        kind, program, *words = self.services[service]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "calltally")
        checked = subprocess.run(
            self.command(words),
            env=self.environment(service),
            cwd=self.home,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert checked.returncode in {0, 1}, checked.stderr
        return checked.returncode == 0

    def until_healthy(self, service: str) -> None:
        """Wait as Compose does."""
        deadline = time.monotonic() + 180
        while not self.is_healthy(service):
            assert time.monotonic() < deadline, (self.home / f"{service}.log").read_text()[-3000:]
            time.sleep(0.5)


@pytest.fixture(scope="module")
def installation() -> Iterator[tuple[Installation, RunningSandbox]]:
    """Everything runs, in the order that the compose file asks for."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ct-")))
        sandbox = stack.enter_context(running_sandbox(Sandbox(seed=5)))
        installation = Installation(home, {**sandbox.environment(), "OPERATOR_TOKEN": "token"})
        stack.callback(installation.postgres.stop, "immediate")
        installation.make_logins()
        migrated = installation.start("migrate")
        assert migrated.wait(timeout=120) == 0, (home / "migrate.log").read_text()
        for service in ("prefect", "receiver", "worker", "nights"):
            assert not installation.is_healthy(service)
            process = installation.start(service)
            stack.callback(stop, process)
            installation.until_healthy(service)
        yield installation, sandbox


def stop(process: subprocess.Popen[bytes]) -> None:
    """As Docker does: a signal, some time to finish, and then the end."""
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_services_of_the_compose_file_bill_a_call(installation: tuple[Installation, RunningSandbox]) -> None:
    """With a login that may do no more than the application: calls are billed, and tables cannot be written."""
    house, sandbox = installation
    engine = open_engine(house.postgres.url())
    books = Books(engine)
    organization_id = books.organization("Acme")
    books.credit(organization_id, 100_000_000, "topup:pi_1")
    books.route(organization_id, "asst-acme")
    calls = sandbox.vapi.place_calls(
        Traffic(20, (Route(assistant_id="asst-acme"),), DAY_START, DAY_END, never_connected_share=0.0, detail="slim")
    )
    delivered = sandbox.sandbox.deliver_calls(calls, url=f"{house.receiver_url}/webhooks/vapi", retries=Retries(()))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and books.value("SELECT count(*) FROM charges") < 20:
        time.sleep(0.2)
    health = httpx.get(f"{house.receiver_url}/health", trust_env=False, timeout=5)

    token = {"Authorization": f"Bearer {FILLED['METRICS_TOKEN']}"}
    for port in (house.ports["3001"], house.ports["9464"]):
        metrics = f"http://127.0.0.1:{port}/metrics"
        assert httpx.get(metrics, trust_env=False, timeout=5).status_code == 401
        assert "calltally_" in httpx.get(metrics, headers=token, trust_env=False, timeout=5).text

    assert list(delivered.report.final_statuses) == ["200"]
    assert books.value("SELECT count(*) FROM charges WHERE state = 'settled'") == 20
    assert books.broken() == []
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    with psycopg.connect(house.environment("worker")["DATABASE_URL"]) as connection:
        for refused in (
            "UPDATE wallets SET balance_micros = 0",
            "DELETE FROM transfers",
            "SET ROLE calltally_owner",
            "SET ROLE postgres",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(refused.encode())
            connection.rollback()
    engine.dispose()


def test_nightly_run_is_taken_by_the_nights_service(installation: tuple[Installation, RunningSandbox]) -> None:
    """A night started over HTTP runs in a process of the work pool and completes."""
    house, _ = installation
    engine = open_engine(house.postgres.url())
    token = {"Authorization": f"Bearer {house.secrets['OPERATOR_TOKEN']}"}
    started = httpx.post(
        f"{house.receiver_url}/api/billing-reconciliation/trigger",
        headers=token,
        json={},
        trust_env=False,
        timeout=20,
    )
    assert started.status_code == 202, started.text
    books = Books(engine)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not books.value(
        "SELECT count(*) FROM reconciliation_runs WHERE state <> 'running'"
    ):
        time.sleep(0.5)

    assert books.rows("SELECT state, error FROM reconciliation_runs") == [{"state": "completed", "error": None}]
    engine.dispose()
