"""What goes wrong during a soak, one thing after the other, again and again."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import psutil  # type: ignore[import-untyped]
import psycopg

from calltally.sandbox.faults import html_fault, slow_answer, text_fault
from calltally.sandbox.slack import SlackWorld
from tests.scenarios.installation import Installation

PAUSE_SECONDS = 10.0
DROP_CONNECTIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


class Troubles:
    """Each makes its trouble and returns when it is over; `made` counts them."""

    def __init__(self, installation: Installation, slack: SlackWorld) -> None:
        self.made: Counter[str] = Counter()
        self._installation = installation
        self._slack = slack

    async def make(self, number: int, *, deadly: bool) -> str:
        """The next one of the round, by its number; its name. Only a `deadly` one kills a process."""
        round_: list[Callable[[], Awaitable[None]]] = [
            self.drop_connections,
            self.kill_worker if deadly else self.drop_connections,
            self.pause_prefect,
            self.spoil_slack,
        ]
        trouble = round_[number % len(round_)]
        await trouble()
        name = getattr(trouble, "__name__", "trouble").replace("_", " ")
        self.made[name] += 1
        return name

    async def drop_connections(self) -> None:
        """End every connection to Postgres: the receiver's, the worker's, Prefect's."""

        def drop() -> None:
            with psycopg.connect(self._installation.postgres.url("postgres"), autocommit=True) as connection:
                connection.execute(DROP_CONNECTIONS.encode())

        await asyncio.to_thread(drop)

    async def kill_worker(self) -> None:
        """SIGKILL to the worker."""
        for process in self._processes("worker"):
            process.kill()

    async def pause_prefect(self) -> None:
        """Prefect's server hangs: it takes connections and answers nothing."""
        paused = self._processes("prefect")
        for process in paused:
            process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            for process in paused:
                process.send_signal(signal.SIGCONT)

    async def spoil_slack(self) -> None:
        """Slack is slow, limits us, and then shows a page of its proxy's."""
        self._slack.faults.add(slow_answer(3.0))
        self._slack.faults.add(text_fault(429, "rate_limited", retry_after_seconds=1))
        self._slack.faults.add(html_fault(502))

    def _processes(self, name: str) -> list[psutil.Process]:
        return self._installation.processes().get(name, [])
