"""The long-running commands as people start and stop them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from .places import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def start(*verbs: str, home: Path, **environment: str) -> subprocess.Popen[str]:
    """`calltally …` in a home of its own, without settings of the machine."""
    return subprocess.Popen(
        [sys.executable, "-m", "calltally", *verbs],
        env={
            **{name: content for name, content in os.environ.items() if name in {"PATH", "HOME", "LANG", "TZ"}},
            "CALLTALLY_HOME": str(home / "data"),
            "PYTHONPATH": str(Path.cwd()),
            "RECEIVER_PORT": str(free_port()),
            "PREFECT_SERVER_API_PORT": str(free_port()),
            **environment,
        },
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def remaining(family: list[psutil.Process], home: Path) -> list[str]:
    """Those of the processes that still live, and any other that works in the home."""
    known = {process.pid for process in family}
    alive = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid in known or str(home) in " ".join(process.info["cmdline"] or [])
    ]
    return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_demo_tells_its_whole_story(home: Path) -> None:
    """It ends by itself, all its claims came true, and nothing of it is left."""
    process = start("demo", home=home)
    output, _ = process.communicate(timeout=240)

    assert process.returncode == 0, output
    assert "✗" not in output
    assert "check_books() finds nothing" in output
    assert remaining([], home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stopped_by_a_signal_leaves_no_process(home: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end Postgres, Prefect, workers and receiver."""
    process = start("up", home=home)
    assert process.stdout is not None
    said: list[str] = []
    while "calltally is up" not in (said[-1] if said else ""):
        line = process.stdout.readline()
        assert line, "".join(said)
        said.append(line)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate(timeout=90)
    deadline = time.monotonic() + 15
    while remaining(family, home) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert process.returncode in {0, 130}
    assert len(family) >= 5
    assert remaining(family, home) == []
