"""Runs the stack's processes: starts them in order, restarts the dead, stops all, leaves none behind.

It never gives up: one part that keeps dying, a full disk or a system without memory are no reason to stop the others.
Webhooks are stored as long as the receiver and Postgres run.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

import httpx
from rich.console import Console

from calltally.stack import guard
from calltally.stack.environment import without
from calltally.stack.output import ChildLog

BACK_OFF_SECONDS: Final = (1, 2, 4, 8, 16, 32, 60)
"""Between two starts of what dies again and again; the last one for ever."""
WELL_AFTER_SECONDS: Final = 60
"""Whoever lived so long begins with the shortest wait."""
GRACE_SECONDS: Final = 10
READY_POLL_SECONDS: Final = 0.1
SERVICE_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Child:
    """One process to keep alive."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """On top of the supervisor's own environment."""
    ready: str | Callable[[], Awaitable[bool]] | None = None
    """A URL that must answer 2xx, or a function that must answer true; None: ready as soon as it runs."""
    ready_timeout_seconds: float = 60
    longest_wait_seconds: float = BACK_OFF_SECONDS[-1]
    """Before it is started again, however often it has died."""
    withheld: Collection[str] = ()
    """What of the supervisor's environment the child does not get, such as the secrets of others."""


@dataclass(frozen=True)
class Service:
    """Something to keep alive that is no child, because it outlives this process or is shared with others."""

    name: str
    is_alive: Callable[[], bool]
    revive: Callable[[], None]
    """Starts it again and returns once it is there; may raise. Both are called in threads."""
    longest_wait_seconds: float = BACK_OFF_SECONDS[-1]


class ChildFailedError(Exception):
    """A process of the stack doesn't start; the message names it, its log and its last words."""

    def __init__(self, name: str, problem: str, log: ChildLog) -> None:
        """`problem` completes a sentence that begins with the name."""
        self.name = name
        self.log_file = log.path
        super().__init__(f"{name} {problem}.\nIts log is {log.path}; the last lines are:\n{log.tail()}")


@dataclass
class _Running:
    child: Child
    log: ChildLog
    process: asyncio.subprocess.Process
    reader: asyncio.Task[None]
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Use as an async context manager: leaving it stops every child, the youngest first."""

    def __init__(self, logs: Path, *, console: Console | None = None, farewell: Sequence[str] = ()) -> None:
        """Output goes to `logs/<name>.log`, and to `console` too if there is one.

        `farewell` is a command that runs, after the children are stopped, should this process be killed.
        """
        self._logs = logs
        self._farewell = farewell
        self._mark = uuid4().hex
        self._console = console
        self._running: list[_Running] = []
        self._logs_opened = 0
        self._guard: asyncio.subprocess.Process | None = None
        self._duties: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start the guard, which stops the children should this process be killed."""
        await self._start_guard()
        self._duties.append(asyncio.create_task(self._keep_guard(), name="keep the guard"))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all children; the guard finishes the work if this is cancelled. It raises nothing else."""
        for duty in self._duties:
            duty.cancel()
        try:
            if self._duties:
                await asyncio.wait(self._duties)
            while self._running:
                running = self._running.pop()
                try:
                    await self._stop(running)
                except Exception as error:  # noqa: BLE001 - the others are stopped all the same, the guard ends this one
                    running.log.note(f"can't be stopped: {error}")
                running.log.close()
            self._tell_guard("leave")
        finally:
            if self._guard is not None and self._guard.stdin is not None:
                self._guard.stdin.close()
        if self._guard is not None:
            await self._guard.wait()

    async def start(self, child: Child, *, patient: bool = False) -> None:
        """Start `child` and wait until it is ready; from then on it is restarted whenever it dies.

        Raises ChildFailedError if it dies or isn't ready in time; if `patient`, it is restarted and awaited instead.
        """
        log = self._open_log(child)
        running = _Running(child, log, *await self._spawn(child, log))
        self._running.append(running)
        if patient:
            self._keep(running)
            while not await _is_ready(child):  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(READY_POLL_SECONDS)
            return
        try:
            async with asyncio.timeout(child.ready_timeout_seconds):
                while not await _is_ready(child):
                    if running.process.returncode is not None:
                        await running.reader
                        raise ChildFailedError(child.name, _ending(running.process.returncode), log)
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError as error:
            problem = f"wasn't ready after {child.ready_timeout_seconds:g} s"
            raise ChildFailedError(child.name, problem, log) from error
        self._keep(running)

    async def run(self, child: Child, *, patient: bool = False) -> None:
        """Run `child` once, to its end.

        Raises ChildFailedError if it fails, or takes longer than its `ready_timeout_seconds`; if `patient`, it is run
        again instead.
        """
        log = self._open_log(child)
        failures = 0
        while True:
            try:
                return await self._run_once(child, log)
            except (ChildFailedError, OSError) as error:
                if not patient:
                    raise
                delay = _wait_before(failures, child.longest_wait_seconds)
                log.note(f"{str(error).partition(chr(10))[0]} It is run again in {delay:g} s")
                failures += 1
                await asyncio.sleep(delay)

    async def _run_once(self, child: Child, log: ChildLog) -> None:
        running = _Running(child, log, *await self._spawn(child, log))
        try:
            async with asyncio.timeout(child.ready_timeout_seconds):
                exit_code = await running.process.wait()
        except TimeoutError as error:
            problem = f"took longer than {child.ready_timeout_seconds:g} s"
            raise ChildFailedError(child.name, problem, log) from error
        finally:
            await self._stop(running)
            log.close()
        if exit_code != 0:
            raise ChildFailedError(child.name, _ending(exit_code), log)

    def keep(self, service: Service) -> None:
        """Look at `service` every second from now on, and revive it when it is gone."""
        self._duties.append(asyncio.create_task(self._keep_service(service), name=f"keep {service.name}"))

    def _keep(self, running: _Running) -> None:
        running.keeper = asyncio.create_task(self._keep_alive(running), name=f"keep {running.child.name}")

    def _open_log(self, child: Child) -> ChildLog:
        self._logs_opened += 1
        return ChildLog(child.name, self._logs / f"{child.name}.log", self._console, self._logs_opened)

    async def _spawn(self, child: Child, log: ChildLog) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        # A pipe of our own: with asyncio's, the end of a process would wait for its children's output.
        source, sink = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                env={
                    **without(os.environ, child.withheld),
                    "PYTHONUNBUFFERED": "1",
                    **child.env,
                    guard.MARK: self._mark,
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops them in order
            )
        except OSError:
            os.close(source)
            raise
        finally:
            os.close(sink)
        self._tell_guard(f"watch {process.pid}")
        return process, asyncio.create_task(log.follow(source), name=f"read {child.name}")

    async def _keep_alive(self, running: _Running) -> None:
        loop, deaths = asyncio.get_running_loop(), 0
        while True:
            born_at = loop.time()
            problem = _ending(await running.process.wait())
            await self._bury(running)
            if loop.time() - born_at >= WELL_AFTER_SECONDS:
                deaths = 0
            while True:
                delay = _wait_before(deaths, running.child.longest_wait_seconds)
                running.log.note(f"{problem}; starting again in {delay:g} s")
                deaths += 1
                await asyncio.sleep(delay)
                try:
                    running.process, running.reader = await self._spawn(running.child, running.log)
                except OSError as error:
                    problem = f"can't be started: {error}"
                else:
                    break

    async def _stop(self, running: _Running) -> None:
        if running.keeper is not None:
            running.keeper.cancel()
            await asyncio.wait([running.keeper])
        if running.process.returncode is None:
            with suppress(ProcessLookupError):
                running.process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(running.process.wait(), GRACE_SECONDS)
        await self._bury(running)

    async def _bury(self, running: _Running) -> None:
        """Kill what is left of the child's process group, and read the rest of its output."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.process.pid, signal.SIGKILL)
        await running.process.wait()
        self._tell_guard(f"forget {running.process.pid}")
        # A grandchild in a session of its own may hold the pipe open.
        await asyncio.wait([running.reader], timeout=1)
        running.reader.cancel()
        await asyncio.wait([running.reader])

    async def _start_guard(self) -> None:
        self._guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", guard.__file__, self._mark, *self._farewell),
            stdin=asyncio.subprocess.PIPE,
            env=without(os.environ),
            start_new_session=True,
        )
        for running in self._running:
            self._tell_guard(f"watch {running.process.pid}")

    async def _keep_guard(self) -> None:
        """Without a guard, whoever kills this process would leave its children behind."""
        while self._guard is not None:
            await self._guard.wait()
            await asyncio.sleep(BACK_OFF_SECONDS[0])
            with suppress(OSError):  # no room for another process: the old one has ended, so it is tried again
                await self._start_guard()

    async def _keep_service(self, service: Service) -> None:
        self._logs_opened += 1
        log = ChildLog(service.name, self._logs / f"{service.name}.log", self._console, self._logs_opened)
        loop, failures = asyncio.get_running_loop(), 0
        try:
            while True:
                await asyncio.sleep(SERVICE_POLL_SECONDS)
                gone_at = loop.time()
                try:
                    if await asyncio.to_thread(service.is_alive):
                        continue
                    log.note("is gone; starting it again")
                    await asyncio.to_thread(service.revive)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                    for line in str(error).splitlines():
                        log.note(line)
                    delay = _wait_before(failures, service.longest_wait_seconds)
                    failures += 1
                    await asyncio.sleep(delay)
                else:
                    failures = 0
                    log.note(f"is back after {loop.time() - gone_at:.1f} s")
        finally:
            log.close()

    def _tell_guard(self, line: str) -> None:
        if self._guard is not None and self._guard.returncode is None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{line}\n".encode())


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM cancel the current task, so that every `async with` on the way out cleans up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("signals need a task to cancel")
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _is_ready(child: Child) -> bool:
    if child.ready is None:
        return True
    if callable(child.ready):
        return await child.ready()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            return (await client.get(child.ready)).is_success
    except httpx.HTTPError:
        return False


def _wait_before(failures: int, longest_seconds: float) -> float:
    """The seconds before what has failed so often, and once more, is tried again."""
    return min(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)], longest_seconds)


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
