"""A fresh sandbox of Slack, and one database for all tests here, without alerts in the beginning."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from billing.database import open_engine
from billing.settings import Settings
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox
from tests.books import Books
from tests.night.served import Switchboard, running_switchboard

EMPTY = """
SET LOCAL session_replication_role = replica; -- history lets nobody else empty it
DELETE FROM transfers; DELETE FROM charges; DELETE FROM calls; DELETE FROM event_attempts; DELETE FROM events;
DELETE FROM event_bodies; DELETE FROM sms_messages; DELETE FROM sms_prices;
DELETE FROM alerts; DELETE FROM incidents; DELETE FROM findings; DELETE FROM reconciliation_runs;
DELETE FROM routes; DELETE FROM prices; DELETE FROM wallets; DELETE FROM accounts; DELETE FROM organizations;
INSERT INTO prices (currency, per_minute_micros, valid) VALUES ('USD', 700000, '(,)');
"""

Configure = Callable[..., Settings]


@pytest.fixture(scope="package")
def package_url(postgres_url: str, template: str) -> Iterator[str]:
    """A copy of the migrated template, dropped at the end."""
    name = f"alerts_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="package")
def engines(package_url: str) -> Iterator[tuple[Engine, Engine]]:
    """Its connections: the application's and the superuser's."""
    engines = open_engine(package_url), open_engine(package_url, role=None)
    yield engines
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(engines: tuple[Engine, Engine]) -> Engine:
    """The application's connections to books in which nothing has happened."""
    with engines[1].begin() as connection:
        connection.exec_driver_sql(EMPTY)
    return engines[0]


@pytest.fixture
def books(engine: Engine) -> Books:
    """The same books through the functions that the program calls."""
    return Books(engine)


@pytest.fixture
def owner(engine: Engine, engines: tuple[Engine, Engine]) -> Books:
    """The same books as their superuser, who can do what no function would."""
    return Books(engines[1])


@pytest.fixture(scope="package")
def switchboard() -> Iterator[Switchboard]:
    """The port of all sandboxes."""
    with running_switchboard() as served:
        yield served


@pytest.fixture
def sandbox(switchboard: Switchboard) -> RunningSandbox:
    """A fresh sandbox."""
    return switchboard.show(Sandbox(seed=7))


@pytest.fixture
def configure(sandbox: RunningSandbox) -> Configure:
    """Settings that lead to the sandbox, unless told otherwise."""

    def with_settings(**changes: Any) -> Settings:
        return Settings(_env_file=None, **{"slack_webhook_url": sandbox.slack_webhook_url, **changes})

    return with_settings
