"""Databases for tests: copies of the migrated template, and how to empty one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg
from sqlalchemy import Engine, make_url

from billing.database import open_engine
from tests.books import Books

EMPTY = """
SET LOCAL session_replication_role = replica; -- history lets nobody else empty it
DELETE FROM sms_messages; DELETE FROM sms_prices; DELETE FROM movements; DELETE FROM seen_payments;
DELETE FROM first_sights;
DELETE FROM transfers; DELETE FROM payments; DELETE FROM assigned_payments; DELETE FROM charges;
DELETE FROM call_decisions; DELETE FROM calls;
DELETE FROM event_attempts; DELETE FROM event_bodies; DELETE FROM events; DELETE FROM workers;
DELETE FROM alerts; DELETE FROM incidents; DELETE FROM findings; DELETE FROM run_corrections;
DELETE FROM reconciliation_runs;
DELETE FROM routes; DELETE FROM prices; DELETE FROM wallets; DELETE FROM accounts; DELETE FROM organizations;
INSERT INTO prices (currency, per_minute_micros, valid) VALUES ('USD', 700000, '(,)');
"""


@dataclass(frozen=True)
class Scratch:
    """A migrated database that can be emptied: making one anew costs ten times as much."""

    url: str
    books: Books
    """As the application."""
    owner: Books
    """As the superuser, who can do what no function would."""

    @property
    def engine(self) -> Engine:
        """The application's connections."""
        return self.books.engine

    def empty(self) -> None:
        """Leave no row but the default price."""
        with self.owner.engine.begin() as connection:
            connection.exec_driver_sql(EMPTY)


def execute(url: str, statement: str) -> None:
    """Run a statement by itself, outside of any transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextmanager
def new_database(postgres_url: str, template: str | None = None) -> Iterator[str]:
    """The address of a new database, a copy of `template` if one is named; dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
    execute(postgres_url, f"CREATE DATABASE {name}{copied}")
    try:
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    finally:
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def scratch_database(postgres_url: str, template: str) -> Iterator[Scratch]:
    """A copy of the template, to be emptied again and again."""
    with new_database(postgres_url, template) as url, opened(url) as scratch:
        yield scratch


@contextmanager
def opened(url: str) -> Iterator[Scratch]:
    """Both kinds of connections to a migrated database."""
    engines = open_engine(url), open_engine(url, role=None)
    yield Scratch(url, Books(engines[0]), Books(engines[1]))
    for engine in engines:
        engine.dispose()
