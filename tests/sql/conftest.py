"""One database for all tests that are content with organizations of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from billing.database import open_engine
from tests.books import Books

EMPTY = """
SET LOCAL session_replication_role = replica; -- history lets nobody else empty it
DELETE FROM sms_messages; DELETE FROM sms_prices;
DELETE FROM reversals;
DELETE FROM transfers; DELETE FROM charges; DELETE FROM calls; DELETE FROM event_attempts; DELETE FROM events;
DELETE FROM event_bodies;
DELETE FROM workers; DELETE FROM alerts; DELETE FROM incidents; DELETE FROM findings; DELETE FROM reconciliation_runs;
DELETE FROM routes; DELETE FROM prices; DELETE FROM wallets; DELETE FROM accounts; DELETE FROM organizations;
INSERT INTO prices (currency, per_minute_micros, valid) VALUES ('USD', 700000, '(,)');
"""


@contextmanager
def database_from(postgres_url: str, template: str) -> Iterator[str]:
    """A copy of the migrated template, dropped at the end."""
    name = f"shared_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def shared_url(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database that lasts for the whole run."""
    with database_from(postgres_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def shared(shared_url: str) -> Iterator[Books]:
    """Books in which every test opens its own organizations and uses its own ids."""
    engine = open_engine(shared_url)
    yield Books(engine)
    engine.dispose()
    with psycopg.connect(shared_url) as connection:
        broken = connection.execute("SELECT * FROM check_books()").fetchall()
    assert broken == [], "a test left broken books behind"


@pytest.fixture(scope="session")
def scratch_url(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database that is emptied for each test; making one anew would cost half a second."""
    with database_from(postgres_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def scratch_engines(scratch_url: str) -> Iterator[tuple[Engine, Engine]]:
    """Its connections: the application's and the superuser's."""
    engines = open_engine(scratch_url), open_engine(scratch_url, role=None)
    yield engines
    for engine in engines:
        engine.dispose()


@pytest.fixture
def books(scratch_engines: tuple[Engine, Engine]) -> Books:
    """Books without any row but the default price."""
    with scratch_engines[1].begin() as connection:
        connection.exec_driver_sql(EMPTY)
    return Books(scratch_engines[0])


@pytest.fixture
def owner(books: Books, scratch_engines: tuple[Engine, Engine]) -> Books:
    """The same books as their superuser, who can do what no function would."""
    return Books(scratch_engines[1])


@pytest.fixture
def tag() -> str:
    """Makes ids of a test its own."""
    return uuid4().hex[:12]
