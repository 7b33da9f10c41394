"""One database for all tests that are content with organizations of their own."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from billing.database import open_engine
from tests.books import Books


@pytest.fixture(scope="session")
def shared_url(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database that lasts for the whole run."""
    name = f"shared_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def shared(shared_url: str) -> Iterator[Books]:
    """Books in which every test opens its own organizations and uses its own ids."""
    engine = open_engine(shared_url)
    yield Books(engine)
    engine.dispose()
    with psycopg.connect(shared_url) as connection:
        broken = connection.execute("SELECT * FROM check_books()").fetchall()
    assert broken == [], "a test left broken books behind"


@pytest.fixture
def owner(database_url: str) -> Iterator[Books]:
    """A fresh database as its superuser, who can do what no function would."""
    engine = open_engine(database_url, role=None)
    yield Books(engine)
    engine.dispose()


@pytest.fixture
def tag() -> str:
    """Makes ids of a test its own."""
    return uuid4().hex[:12]
