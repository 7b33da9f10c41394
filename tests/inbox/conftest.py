"""One database for all tests here, emptied for each: making one anew would cost half a second."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from billing.database import open_engine
from billing.process import get_engine
from billing.settings import get_settings

from .story import UNLUCKY, Story, emptied


@pytest.fixture(scope="package")
def inbox_url(postgres_url: str, template: str) -> Iterator[str]:
    """A copy of the migrated template, dropped at the end; in it some calls always fail."""
    name = f"inbox_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        with psycopg.connect(url) as inside:
            inside.execute(UNLUCKY.encode())
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="package")
def engines(inbox_url: str) -> Iterator[tuple[Engine, Engine]]:
    """Its connections: the application's and the superuser's."""
    engines = open_engine(inbox_url), open_engine(inbox_url, role=None)
    yield engines
    for engine in engines:
        engine.dispose()


@pytest.fixture
def story(engines: tuple[Engine, Engine]) -> Story:
    """Books without any row but the default price, and an empty inbox."""
    return emptied(engines)


@pytest.fixture
def environment(inbox_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine on which the database and Prefect's address are set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", inbox_url)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setenv("COLUMNS", "200")
    for cached in (get_settings, get_engine):
        cached.cache_clear()
    yield
    for cached in (get_settings, get_engine):
        cached.cache_clear()
