"""The supervisor keeps processes alive, says clearly when it can't, and leaves none behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from rich.console import Console

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
            await asyncio.Event().wait()

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


async def until(path: Path, text: str, *, times: int = 1) -> None:
    """Wait for `text` in the file at `path`, so many times."""
    await asyncio.to_thread(wait_for, lambda: path.exists() and path.read_text().count(text) >= times)


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once it holds; fail if it never does."""
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


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


def test_child_that_keeps_dying_is_started_again_and_stops_nobody_else(tmp_path: Path, impatient: None) -> None:
    """However often it dies, with growing delays up to the longest; others live on as they are."""

    async def scenario() -> list[int]:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("well", python("import os, time; print(os.getpid()); time.sleep(60)")))
            await until(tmp_path / "well.log", "\n")
            await stack.start(Child("hopeless", python("print('no licence'); raise SystemExit(7)")))
            await stack.start(Child("dear", python("raise SystemExit(7)"), longest_wait_seconds=0.02))
            for name in ("hopeless", "dear"):
                await until(tmp_path / f"{name}.log", "\n", times=16)
        return [int(line) for line in (tmp_path / "well.log").read_text().splitlines()]

    pids = asyncio.run(scenario())

    lines = (tmp_path / "hopeless.log").read_text().splitlines()
    waits = [line.rpartition(" in ")[2] for line in lines if line.startswith("[")]
    assert waits[:7] == ["0.01 s]", "0.02 s]", "0.04 s]", "0.08 s]", "0.08 s]", "0.08 s]", "0.08 s]"]
    assert lines.count("no licence") > 6
    assert lines[1].startswith("[hopeless ended with exit code 7; starting again in")
    assert "0.04 s" not in (tmp_path / "dear.log").read_text()
    assert len(pids) == 1


def test_child_that_lived_for_long_begins_with_the_shortest_wait(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened long ago no longer counts."""
    monkeypatch.setattr(supervisor, "WELL_AFTER_SECONDS", 0)

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            await stack.start(Child("old", python("raise SystemExit(7)")))
            await until(tmp_path / "old.log", "\n", times=4)

    asyncio.run(scenario())

    assert set((tmp_path / "old.log").read_text().splitlines()) == {
        "[old ended with exit code 7; starting again in 0.01 s]"
    }


def test_child_that_cannot_be_started_for_a_while_comes_back(tmp_path: Path, impatient: None) -> None:
    """As when the system has no memory, or its program is being replaced."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho life; rm -f {program}\n")
    program.chmod(0o755)

    async def scenario() -> None:
        async with Supervisor(tmp_path / "logs") as stack:
            await stack.start(Child("homeless", [str(program)]))
            await until(tmp_path / "logs" / "homeless.log", "can't be started: ", times=3)
            program.write_text("#!/bin/sh\necho another life; sleep 60\n")
            program.chmod(0o755)
            await until(tmp_path / "logs" / "homeless.log", "another life")

    asyncio.run(scenario())


def test_patient_start_waits_for_what_dies_at_first(tmp_path: Path, impatient: None) -> None:
    """Whoever can do without it goes on meanwhile; the same holds for what runs once."""
    marker = tmp_path / "marker"
    code = f"import pathlib, sys, time; sys.exit(3) if not pathlib.Path({str(marker)!r}).exists() else None"

    async def there() -> bool:
        return marker.exists()

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            slow = asyncio.create_task(
                stack.start(Child("slow", python(f"{code}; time.sleep(60)"), ready=there), patient=True)
            )
            once = asyncio.create_task(stack.run(Child("once", python(code)), patient=True))
            for name in ("slow", "once"):
                await until(tmp_path / f"{name}.log", "ended with exit code 3", times=7)
            assert not slow.done()
            assert not once.done()
            marker.touch()
            await asyncio.gather(slow, once)

    asyncio.run(scenario())


TALKER = """
import pathlib, sys, time
done, more = map(pathlib.Path, sys.argv[1:])
print(*range(5_000), sep="\\n", flush=True)
done.touch()
while True:
    if more.exists():
        print("again", flush=True)
    time.sleep(0.02)
"""


@pytest.mark.parametrize("shown", [False, True])
def test_full_disk_keeps_nobody_from_working(tmp_path: Path, shown: bool) -> None:
    """What a child says is read on and counted; the log goes on when there is room; the end raises nothing."""
    log, done, more = (tmp_path / name for name in ("talker.log", "done", "more"))
    log.symlink_to("/dev/full")
    screen = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails

    async def scenario() -> None:
        async with Supervisor(tmp_path, console=Console(file=screen) if shown else None) as stack:
            await stack.start(Child("talker", [*python(TALKER), str(done), str(more)]))
            await asyncio.to_thread(wait_for, done.exists)
            log.unlink()
            more.touch()
            await until(log, "could not be written here")
            log.unlink()
            log.symlink_to("/dev/full")

    asyncio.run(scenario())

    with suppress(OSError):
        screen.close()
    assert done.exists()


def test_reader_of_the_output_may_go(tmp_path: Path) -> None:
    """`calltally up | head` ends what is shown, and nothing else."""
    source, sink = os.pipe()
    os.close(source)

    async def scenario() -> None:
        with os.fdopen(sink, "w") as screen:
            async with Supervisor(tmp_path, console=Console(file=screen)) as stack:
                await stack.start(Child("talker", python("import time; print('one'); print('two'); time.sleep(60)")))
                await until(tmp_path / "talker.log", "two")
            with suppress(BrokenPipeError):
                screen.close()

    asyncio.run(scenario())


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
        children = [child for child in psutil.Process(process.pid).children() if child.pid != first.pid]
        with suppress(psutil.ZombieProcess):
            return [child for child in children if "guard.py" in " ".join(child.cmdline())]
        return []

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


def test_service_that_cannot_be_revived_is_tried_again_for_ever(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if looking at it fails; children live on, and it comes back at once when it can."""
    monkeypatch.setattr(supervisor, "SERVICE_POLL_SECONDS", 0.01)
    looks, attempts = 0, 0

    def is_alive() -> bool:
        nonlocal looks
        looks += 1
        if looks <= 10:
            raise OSError("too many open files")
        return attempts > 10

    def revive() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 10:
            raise OSError("the disk is full")

    async def scenario() -> None:
        async with Supervisor(tmp_path) as stack:
            stack.keep(Service("cellar", is_alive, revive, longest_wait_seconds=0.01))
            await until(tmp_path / "cellar.log", "is back")

    asyncio.run(scenario())

    text = (tmp_path / "cellar.log").read_text()
    assert (text.count("too many open files"), text.count("the disk is full")) == (10, 10)


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
