"""The supervisor keeps processes alive, says clearly when it can't, and leaves none behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from calltally.stack import supervisor
from calltally.stack.supervisor import Child, ChildFailedError, Service, Supervisor

SUPERVISOR_OF_TWO = """
import asyncio, sys
from pathlib import Path
from calltally.stack.supervisor import Child, Supervisor, cancelled_by_signals

async def main(logs):
    # As Prefect's worker does for each flow run: a process with a session of its own.
    sleeper = "import subprocess, time; subprocess.Popen(['sleep', '60'], start_new_session=True); time.sleep(60)"
    with cancelled_by_signals():
        async with Supervisor(logs, farewell=["touch", str(logs / "farewell")]) as stack:
            for name in ("first", "second"):
                await stack.start(Child(name, [sys.executable, "-c", sleeper]))
            print("ready", flush=True)
            await stack.wait()

try:
    asyncio.run(main(Path(sys.argv[1])))
except asyncio.CancelledError:
    sys.exit(130)
"""


FAMILY = 5
"""Two children, a process in its own session of each, and the guard."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in hundredths of a second."""
    monkeypatch.setattr(supervisor, "BACK_OFF_SECONDS", (0.01, 0.02, 0.04, 0.08))


def python(code: str) -> list[str]:
    """The command that runs `code`."""
    return [sys.executable, "-c", code]


async def until(path: Path, text: str) -> None:
    """Wait for `text` in the file at `path`."""

    def wait() -> None:
        while not path.exists() or text not in path.read_text():
            time.sleep(0.02)

    await asyncio.to_thread(wait)


def start_supervisor(logs: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A process that supervises two others; all its descendants, the guard included."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR_OF_TWO, str(logs)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "ready\n"
    itself = psutil.Process(process.pid)
    while len(itself.children(recursive=True)) < FAMILY:
        time.sleep(0.02)
    return process, itself.children(recursive=True)


def test_dead_child_is_started_again(tmp_path: Path, impatient: None) -> None:
    """A child that dies comes back, and its log goes on."""
    marker = tmp_path / "died"
    code = f"""
import pathlib, sys, time
marker = pathlib.Path({str(marker)!r})
if not marker.exists():
    marker.touch()
    print("first life")
    sys.exit(3)
print("second life")
time.sleep(60)
"""

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("phoenix", python(code)))
            await until(tmp_path / "phoenix.log", "second life")

    asyncio.run(scenario())

    lines = (tmp_path / "phoenix.log").read_text().splitlines()
    assert lines[0] == "first life"
    assert lines[1].startswith("[phoenix ended with exit code 3; starting again in")


def test_child_that_keeps_dying_brings_the_stack_down(tmp_path: Path, impatient: None) -> None:
    """After six deaths in a minute the error names the child, its exit code, its log and its last words."""

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("hopeless", python("print('no licence'); raise SystemExit(7)")))
            await stack.wait()

    with pytest.raises(ChildFailedError) as caught:
        asyncio.run(scenario())

    message = str(caught.value)
    assert message.startswith("hopeless ended with exit code 7, 6 times within 60 s.")
    assert str(tmp_path / "hopeless.log") in message
    assert "no licence" in message


def test_child_that_dies_before_it_is_ready_fails_at_once(tmp_path: Path) -> None:
    """A start that can't succeed isn't tried again and again."""

    async def never() -> bool:
        return False

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("stillborn", python("raise SystemExit('bad setting')"), ready=never))

    with pytest.raises(ChildFailedError, match="stillborn ended with exit code 1") as caught:
        asyncio.run(scenario())

    assert "bad setting" in str(caught.value)


def test_child_that_is_never_ready_fails_after_its_limit(tmp_path: Path) -> None:
    """A URL that nobody answers is given up after the time limit."""

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            sleeper = python("import time; time.sleep(60)")
            url = "http://127.0.0.1:9/health"
            await stack.start(Child("mute", sleeper, ready=url, ready_timeout_seconds=0.5))

    with pytest.raises(ChildFailedError, match=r"mute wasn't ready after 0\.5 s"):
        asyncio.run(scenario())


def test_children_stop_youngest_first(tmp_path: Path) -> None:
    """Who depends on others goes before them."""
    farewell = tmp_path / "farewell"
    code = """
import pathlib, signal, sys, time
def leave(*_):
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2])
    sys.exit()
signal.signal(signal.SIGTERM, leave)
print("up")
time.sleep(60)
"""

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            for name in "abc":
                await stack.start(Child(name, [*python(code), str(farewell), name]))
                await until(tmp_path / f"{name}.log", "up")

    asyncio.run(scenario())

    assert farewell.read_text() == "cba"


def test_child_that_ignores_sigterm_is_killed_with_its_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace period nothing of the child's process group is left."""
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(["sleep", "60"]).pid)
time.sleep(60)
"""

    async def scenario() -> int:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("stubborn", python(code)))
            await until(tmp_path / "stubborn.log", "\n")
            return int((tmp_path / "stubborn.log").read_text())

    grandchild = asyncio.run(scenario())

    assert not _lives(grandchild)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the supervisor and all its processes."""
    process, family = start_supervisor(tmp_path)
    process.send_signal(number)

    assert process.wait(timeout=20) == 130
    assert not any(_lives(member.pid) for member in family)


def test_kill_9_of_the_supervisor_leaves_no_child(tmp_path: Path) -> None:
    """Even a supervisor that can't clean up takes its processes with it, and its last wish is done."""
    process, family = start_supervisor(tmp_path)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while not (tmp_path / "farewell").exists() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert (tmp_path / "farewell").exists()
    while any(_lives(member.pid) for member in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(member.pid) for member in family)


@pytest.mark.slow
def test_killed_guard_is_replaced(tmp_path: Path) -> None:
    """The next guard knows the children that the first one watched."""
    process, family = start_supervisor(tmp_path)
    first = next(member for member in family if "guard.py" in " ".join(member.cmdline()))
    first.kill()

    def another() -> list[psutil.Process]:
        children = psutil.Process(process.pid).children()
        return [child for child in children if "guard.py" in " ".join(child.cmdline()) and child.pid != first.pid]

    deadline = time.monotonic() + 15
    while not another() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert another()
    process.kill()
    process.wait()
    while any(_lives(member.pid) for member in family) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not any(_lives(member.pid) for member in family)


def test_service_that_is_gone_is_revived(tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after a failure, and the log says what happened."""
    monkeypatch.setattr(supervisor, "SERVICE_POLL_SECONDS", 0.01)
    alive, attempts = False, 0

    def revive() -> None:
        nonlocal alive, attempts
        attempts += 1
        if attempts == 1:
            raise OSError("the disk is full")
        alive = True

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            stack.keep(Service("cellar", lambda: alive, revive))
            await until(tmp_path / "cellar.log", "is back")

    asyncio.run(scenario())

    text = (tmp_path / "cellar.log").read_text()
    assert text.startswith("[cellar is gone; starting it again]\n[cellar the disk is full]\n")


def test_service_that_cannot_be_revived_brings_the_stack_down(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After six failures in a row the error says which service, and why."""
    monkeypatch.setattr(supervisor, "SERVICE_POLL_SECONDS", 0.01)

    def revive() -> None:
        raise OSError("the disk is full")

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            stack.keep(Service("cellar", lambda: False, revive))
            await stack.wait()

    with pytest.raises(ChildFailedError, match="cellar can't be started again: the disk is full"):
        asyncio.run(scenario())


def test_output_of_any_kind_is_kept(tmp_path: Path) -> None:
    """Endless lines, broken UTF-8 and a missing last newline all reach the log."""
    code = r"import sys; sys.stdout.buffer.write(b'x' * 300_000 + b'\n\xff\nlast'); sys.exit(1)"

    async def never() -> bool:
        return False

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("noisy", python(code), ready=never))

    with pytest.raises(ChildFailedError):
        asyncio.run(scenario())

    text = (tmp_path / "noisy.log").read_text()
    assert text.count("x") == 300_000
    assert text.splitlines()[-2:] == ["�", "last"]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
