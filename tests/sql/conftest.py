"""One database for all tests that are content with organizations of their own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.books import Books
from tests.databases import Scratch, scratch_database


@pytest.fixture(scope="session")
def crowded(postgres_url: str, template: str) -> Iterator[Scratch]:
    """A database that keeps what every test leaves."""
    with scratch_database(postgres_url, template) as scratch:
        yield scratch
        assert scratch.books.broken() == [], "a test left broken books behind"


@pytest.fixture(scope="session")
def shared(crowded: Scratch) -> Books:
    """Books in which every test opens its own organizations and uses its own ids."""
    return crowded.books


@pytest.fixture(scope="session")
def shared_url(crowded: Scratch) -> str:
    """Their address."""
    return crowded.url


@pytest.fixture
def tag() -> str:
    """Makes ids of a test its own."""
    return uuid4().hex[:12]
