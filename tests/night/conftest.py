"""A served sandbox of the providers whose clock stands still."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from billing.settings import Settings
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox

from .served import Switchboard, running_switchboard

NOW = datetime(2026, 11, 4, 3, tzinfo=UTC)


@pytest.fixture(scope="session")
def switchboard() -> Iterator[Switchboard]:
    """The port of all sandboxes."""
    with running_switchboard() as served:
        yield served


@pytest.fixture
def sandbox(switchboard: Switchboard) -> RunningSandbox:
    """A fresh sandbox."""
    return switchboard.show(Sandbox(seed=7, clock=lambda: NOW))


@pytest.fixture
def settings(sandbox: RunningSandbox) -> Settings:
    """Settings that point at the sandbox's Vapi."""
    return Settings(_env_file=None, vapi_base_url=sandbox.vapi_base_url, vapi_api_key=SecretStr(sandbox.vapi.api_key))
