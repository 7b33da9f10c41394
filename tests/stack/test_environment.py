"""The logins of `calltally up` on its own server, and who has secrets in its environment."""

import asyncio
import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from calltally.stack.environment import LOGINS, SECRETS, ensure_logins
from calltally.stack.service_account import ServiceAccount
from calltally.stack.supervisor import Supervisor

GIVEN = {name: f"secret of {name}" for name in SECRETS} | {"stripe_api_key": "secret of small letters"}


def test_logins_are_made_once_and_mended_at_each_start(database_url: str) -> None:
    """A home is started more than once: the second start finds the logins, and takes from them what they gained."""
    first = ensure_logins(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER ROLE calltally_receiver_login CREATEDB")

    assert ensure_logins(database_url) == first
    assert first.keys() == LOGINS.keys()
    with psycopg.connect(database_url) as connection:
        [gained] = connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname ~ '^calltally_.*_login$' AND (rolcreatedb OR rolsuper)"
        ).fetchall()
    assert gained == (0,)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """All secrets are set for this process."""
    for name, content in GIVEN.items():
        monkeypatch.setenv(name, content)


def test_what_runs_postgres_has_no_secret(given: None, tmp_path: Path) -> None:
    """It may be another user, who may read the environment of its own processes."""
    account = ServiceAccount(os.geteuid(), os.getegid())
    seen = account.run(["env"], timeout_seconds=30).stdout

    assert "PATH=" in seen
    assert "secret of " not in seen


def test_guard_has_no_secret(given: None, tmp_path: Path) -> None:
    """It stops processes, and nothing more."""

    async def scenario() -> list[dict[str, str]]:
        before = psutil.Process().children()
        async with Supervisor(tmp_path):
            return [
                child.environ()
                for child in psutil.Process().children()
                if child not in before and any(word.endswith("guard.py") for word in child.cmdline())
            ]

    seen = asyncio.run(scenario())

    assert len(seen) == 1
    assert "secret of " not in str(seen)
