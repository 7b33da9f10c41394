"""A private PostgreSQL for the whole run, one migrated template, and a fresh copy of it for each test that asks.

`TEST_DATABASE_URL` names another server to use instead (its user must be allowed to create databases and roles).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, make_url
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from billing.database import open_engine
from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres
from tests.books import Books


class OnePrefect(LoadFileScheduling):  # type: ignore[misc]
    """Files are shared out among the processes of a run, but for the flows': these share one Prefect server."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return "tests/flows" if scope.startswith("tests/flows/") else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OnePrefect:
    """How `--numprocesses` shares the tests out."""
    return OnePrefect(config, log)


MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4_000_000_000


def _fastest_place() -> str | None:
    """Where files are memory, if there is room for them: a copy of the template takes half the time there."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    return str(MEMORY) if roomy else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server without fsync: tests that kill it start their own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="calltally-test-", dir=_fastest_place()) as folder:
        server = EmbeddedPostgres(
            Path(folder) / "pg",
            options={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
        )
        server.start()
        yield server.url("postgres")
        server.stop("immediate")


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    name = f"template_{uuid4().hex[:12]}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    migrate(_named(postgres_url, name))
    yield name
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A fresh migrated database; its user owns everything."""
    name = f"test_{uuid4().hex[:12]}"
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _named(postgres_url, name)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Connections as the application has them."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def books(engine: Engine) -> Books:
    """The books through the same functions that the program calls."""
    return Books(engine)
