"""A fresh sandbox of Slack, and settings that lead to it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from billing.settings import Settings
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox
from tests.night.served import Switchboard, running_switchboard

Configure = Callable[..., Settings]


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
