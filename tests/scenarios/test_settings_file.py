"""A person writes `.env`, starts everything there, and starts a night over HTTP."""

import time
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from calltally.sandbox.server import running_sandbox
from calltally.sandbox.world import Sandbox

from .places import free_port
from .test_commands import start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_night_reads_the_settings_file_that_up_was_started_beside(home: Path) -> None:
    """Prefect runs each night in a folder of its own, where no settings lie."""
    with running_sandbox(Sandbox(seed=3)) as sandbox:
        port = free_port()
        settings = {**sandbox.environment(), "OPERATOR_TOKEN": "token", "RECEIVER_PORT": str(port)}
        (home / ".env").write_text("".join(f"{name}={content}\n" for name, content in settings.items()))
        process = start("up", home=home, RECEIVER_PORT=str(port))
        try:
            assert process.stdout is not None
            while "calltally is up" not in (line := process.stdout.readline()):
                assert line
            api = httpx.Client(
                base_url=f"http://127.0.0.1:{port}/api/billing-reconciliation",
                headers={"Authorization": "Bearer token"},
                trust_env=False,
            )
            with api:
                assert api.post("/trigger").status_code == 202
                deadline = time.monotonic() + 120
                runs: list[dict[str, Any]] = []
                while not (runs and runs[0]["alert"]) and time.monotonic() < deadline:
                    time.sleep(0.2)
                    runs = api.get("/runs").json()["runs"]

            assert [(run["state"], run["error"], run["alert"]) for run in runs] == [("completed", None, "not needed")]
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.communicate(timeout=90)
            psutil.wait_procs(family, timeout=15)
