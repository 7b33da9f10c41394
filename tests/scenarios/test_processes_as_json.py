"""Each long-running process says in one line of JSON where it is, and nothing else on its standard output."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from calltally.stack.postgres import EmbeddedPostgres

from .places import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def told_by(verb: str, home: Path, **environment: str) -> Iterator[dict[str, Any]]:
    """The line of `calltally VERB --json` while it runs; stopped by SIGTERM, it has said no more."""
    with subprocess.Popen(
        [sys.executable, "-m", "calltally", verb, "--json"],
        env={
            **{name: content for name, content in os.environ.items() if name in {"PATH", "HOME", "LANG", "TZ"}},
            "PYTHONPATH": str(Path.cwd()),
            "CALLTALLY_HOME": str(home / "data"),
            **environment,
        },
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, f"{verb} ended without a word"
            yield json.loads(line)
        finally:
            process.terminate()
            rest = process.stdout.read()
    assert rest == ""


def test_processes_say_where_they_are(home: Path) -> None:
    """All of them on one Postgres, and on the Prefect server of `calltally up`."""
    ports = {"RECEIVER_PORT": str(free_port()), "PREFECT_SERVER_API_PORT": str(free_port())}
    with told_by("up", home, **ports) as stack:
        shared = {
            "DATABASE_URL": EmbeddedPostgres(home / "data" / "postgres").url(),
            "PREFECT_API_URL": stack["prefect_api_url"],
        }
        port = str(free_port())
        with (
            told_by("worker", home, **shared) as worker,
            told_by("nights", home, **shared) as nights,
            told_by("receiver", home, **shared, RECEIVER_PORT=port) as receiver,
            told_by("prefect-server", home, **shared, PREFECT_SERVER_API_PORT=str(free_port())) as server,
        ):
            stored = httpx.post(f"{receiver['url']}/webhooks/vapi", trust_env=False)

    assert stack["receiver_url"] == f"http://127.0.0.1:{ports['RECEIVER_PORT']}"
    assert stack["prefect_api_url"] == f"http://127.0.0.1:{ports['PREFECT_SERVER_API_PORT']}/api"
    assert receiver["url"] == f"http://127.0.0.1:{port}"
    assert stored.status_code == httpx.codes.UNAUTHORIZED
    assert worker["worker"].endswith(f":{worker['pid']}")
    assert {process["prefect_api_url"] for process in (worker, nights)} == {stack["prefect_api_url"]}
    assert nights["pool"] == "nights"
    assert server["api_url"].startswith("http://127.0.0.1:")
