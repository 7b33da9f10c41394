"""A private PostgreSQL for the whole run, and migrated books without any row for each test that asks.

`TEST_DATABASE_URL` names another server to use instead (its user must be allowed to create databases and roles).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres
from tests.books import Books
from tests.databases import Scratch, new_database, scratch_database


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


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    with new_database(postgres_url) as url:
        migrate(url)
        yield make_url(url).database or ""


@pytest.fixture(scope="session")
def lasting(postgres_url: str, template: str) -> Iterator[Scratch]:
    """The database of all tests that leave its tables as they are."""
    with scratch_database(postgres_url, template) as scratch:
        yield scratch


@pytest.fixture
def own_tables(postgres_url: str, template: str) -> Iterator[Scratch]:
    """A database of the test's own, because it changes tables; ask for it and it is the one below."""
    with scratch_database(postgres_url, template) as scratch:
        yield scratch


@pytest.fixture
def scratch(request: pytest.FixtureRequest) -> Scratch:
    """Books without any row but the default price."""
    if "own_tables" in request.fixturenames:
        own: Scratch = request.getfixturevalue("own_tables")
        return own
    lasting: Scratch = request.getfixturevalue("lasting")
    lasting.empty()
    return lasting


@pytest.fixture
def database_url(scratch: Scratch) -> str:
    """Their address; its user owns everything."""
    return scratch.url


@pytest.fixture
def engine(scratch: Scratch) -> Engine:
    """Connections to them as the application has them."""
    return scratch.engine


@pytest.fixture
def books(scratch: Scratch) -> Books:
    """The books through the same functions that the program calls."""
    return scratch.books


@pytest.fixture
def owner(scratch: Scratch) -> Books:
    """The same books as their superuser, who can do what no function would."""
    return scratch.owner


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """The address of a database without a schema."""
    with new_database(postgres_url) as url:
        yield url
