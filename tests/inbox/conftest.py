"""One database for all tests here, emptied for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.process import get_engine
from billing.settings import get_settings
from tests.databases import execute, scratch_database

from .story import UNLUCKY, Story


@pytest.fixture(scope="package")
def unlucky(postgres_url: str, template: str) -> Iterator[Story]:
    """A database for all tests here, in which some calls always fail."""
    with scratch_database(postgres_url, template) as scratch:
        execute(scratch.url, UNLUCKY)
        yield Story(scratch)


@pytest.fixture
def story(unlucky: Story) -> Story:
    """Books without any row but the default price, and an empty inbox."""
    return unlucky.from_the_start()


@pytest.fixture
def environment(unlucky: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine on which the database and Prefect's address are set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", unlucky.url)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setenv("COLUMNS", "200")
    for cached in (get_settings, get_engine):
        cached.cache_clear()
    yield
    for cached in (get_settings, get_engine):
        cached.cache_clear()
