"""One database and one Stripe for all tests here, emptied for each."""

from collections.abc import Iterator

import pytest

from billing.settings import get_settings
from calltally.sandbox.world import Sandbox
from tests.databases import Scratch, scratch_database
from tests.night.served import Switchboard, running_switchboard

from .till import Till


@pytest.fixture(scope="package")
def lasting(postgres_url: str, template: str) -> Iterator[Scratch]:
    """A database that is emptied for each test."""
    with scratch_database(postgres_url, template) as scratch:
        yield scratch


@pytest.fixture(scope="package")
def served() -> Iterator[Switchboard]:
    """The port of all sandboxes."""
    with running_switchboard() as switchboard:
        yield switchboard


@pytest.fixture
def keyless(lasting: Scratch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    """Empty books, and no key to ask Stripe with."""
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    lasting.empty()
    get_settings.cache_clear()
    yield Till(lasting, Sandbox(seed=11).stripe)
    get_settings.cache_clear()


@pytest.fixture
def till(keyless: Till, served: Switchboard, monkeypatch: pytest.MonkeyPatch) -> Till:
    """Empty books, and a Stripe that can be asked."""
    sandbox = served.show(Sandbox(seed=11))
    for name, setting in sandbox.environment().items():
        if name.startswith("STRIPE_API"):
            monkeypatch.setenv(name, setting)
    get_settings.cache_clear()
    return Till(keyless.scratch, sandbox.stripe)
