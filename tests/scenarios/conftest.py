"""A sandbox and a short home for the processes of a scenario."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from calltally.sandbox.server import RunningSandbox, running_sandbox
from calltally.sandbox.world import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """The providers."""
    with running_sandbox(Sandbox(seed=11)) as served:
        yield served


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A short path: pytest's own are too long for sockets on some systems."""
    with tempfile.TemporaryDirectory(prefix="ct-") as directory:
        yield Path(directory)
