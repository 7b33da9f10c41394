"""The command line on a fresh database."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from billing.errors import BillingError
from billing.process import get_engine
from billing.settings import get_settings
from calltally.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    output: str
    exit_code: int
    error: BillingError | None
    """What `main` prints as one line, with exit code 1."""

    @property
    def json(self) -> Any:
        """The output of `--json`."""
        return json.loads(self.output)


Calltally = Callable[..., Answer]


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine on which only DATABASE_URL is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    for cached in (get_settings, get_engine):
        cached.cache_clear()
    yield
    for cached in (get_settings, get_engine):
        cached.cache_clear()


@pytest.fixture
def calltally(environment: None) -> Calltally:
    """Run `calltally …`."""

    def run(*arguments: object) -> Answer:
        outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
        failure = outcome.exception
        if failure is not None and not isinstance(failure, (BillingError, SystemExit)):
            raise failure
        return Answer(outcome.output, outcome.exit_code, failure if isinstance(failure, BillingError) else None)

    return run
