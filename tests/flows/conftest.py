"""One real Prefect server for the whole run, and a process as a worker has it, on a fresh database and sandbox."""

import gc
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from sqlalchemy import Engine

from billing.process import get_engine
from billing.settings import get_settings
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox
from calltally.stack.prefect_server import ensure_prefect_database, server_child
from calltally.stack.supervisor import Supervisor
from tests.books import Books
from tests.night.served import Switchboard, running_switchboard

from .stage import LOOP, Stage, in_loop

PREFECT_LEAVES_SOCKETS = "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
"""Its flow engine asks the server for a default storage with a client that it does not close."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests here, and no others, bear with that."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(PREFECT_LEAVES_SOCKETS))


@pytest.fixture(scope="session")
def prefect_api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server, which keeps its state beside ours."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    api_url = f"http://127.0.0.1:{port}/api"
    changes = {
        PREFECT_API_URL: api_url,
        PREFECT_HOME: home,
        PREFECT_LOGGING_TO_API_ENABLED: False,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
    }
    child = server_child(api_url, ensure_prefect_database(postgres_url), home)
    with LOOP, temporary_settings(changes):
        supervisor = Supervisor(home / "logs")
        in_loop(supervisor.__aenter__())
        try:
            in_loop(supervisor.start(child))
            yield api_url
        finally:
            in_loop(supervisor.__aexit__())
            gc.collect()


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Prefect's sockets are collected within its own tests, and not in the midst of somebody else's."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def switchboard() -> Iterator[Switchboard]:
    """The port of all sandboxes."""
    with running_switchboard() as served:
        yield served


@pytest.fixture
def sandbox(switchboard: Switchboard) -> RunningSandbox:
    """A fresh sandbox."""
    return switchboard.show(Sandbox(seed=7))


@pytest.fixture
def process(
    sandbox: RunningSandbox, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """The settings and connections of a worker's process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CALLTALLY_HOME", str(tmp_path))
    for name, setting in sandbox.environment().items():
        monkeypatch.setenv(name, setting)
    for name in ("DAILY_HEARTBEAT", "WEEKLY_SUMMARY"):  # messages that depend on the hour of the day
        monkeypatch.setenv(name, "false")
    get_settings.cache_clear()
    get_engine.cache_clear()
    yield
    get_engine().dispose()
    get_settings.cache_clear()
    get_engine.cache_clear()


@pytest.fixture
def stage(prefect_api: str, process: None, sandbox: RunningSandbox, books: Books, engine: Engine) -> Stage:
    """An organization with money and a route, and what tells its story."""
    organization_id = books.organization("Acme")
    books.credit(organization_id, 100_000_000, "topup:pi_opening")
    books.route(organization_id, "asst-acme")
    now = datetime.now(UTC)
    return Stage(engine, books, sandbox, organization_id, day=(now - timedelta(hours=20), now - timedelta(hours=2)))


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change settings of the process."""

    def change(**environment: str | None) -> None:
        for name, setting in environment.items():
            monkeypatch.setenv(name, setting) if setting is not None else monkeypatch.delenv(name)
        get_settings.cache_clear()
        get_engine().dispose()
        get_engine.cache_clear()

    return change
