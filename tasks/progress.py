"""How far a run is: in Prefect's UI, and for whoever else looks on, such as a terminal."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from billing.night_windows import Span

log = logging.getLogger("billing.progress")

UPDATE_SECONDS = 2.0
"""Between two updates in Prefect's UI; each is a request."""

Listener = Callable[[float, str], None]
"""Told the share that is done, from 0 to 1, and what is being done."""

listeners: list[Listener] = []
"""Of this process."""
_running: dict[UUID, "Progress"] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """Which one of several runs in a row it is, such as day 3 of 14."""

    what: str = ""
    number: int = 1
    total: int = 1

    def tell(self, share: float, words: str) -> None:
        """Tell listeners how far all of them are."""
        where = f"{self.what} {self.number} of {self.total}: " if self.what else ""
        tell_listeners((self.number - 1 + share) / self.total, f"{where}{words}")


_part: ContextVar[Part] = ContextVar("part", default=Part())  # noqa: B039 - it is frozen


@contextmanager
def one_of(what: str, number: int, total: int) -> Iterator[None]:
    """The run within this block is one of so many."""
    token = _part.set(Part(what, number, total))
    try:
        yield
    finally:
        _part.reset(token)


class Progress:
    """How far one run is. Most of its time goes into listing, so that is most of the bar."""

    STEPS = (("listing", 0.0, 0.7), ("comparing", 0.7, 0.8), ("booking", 0.8, 0.95), ("publishing", 0.95, 1.0))

    def __init__(self, artifact_id: UUID | None) -> None:
        self._artifact_id = artifact_id
        self._part = _part.get()
        self._share = 0.0
        self._to_list = timedelta()
        self._listed: dict[Span, tuple[timedelta, int]] = {}

    def expect(self, stretches: Sequence[Span]) -> None:
        """So much of the provider's list is to be read."""
        self._to_list = sum((span.end - span.start for span in stretches), start=timedelta())

    def listed(self, span: Span, covered: timedelta, calls: int) -> None:
        """So much of a stretch is read by now, with so many calls."""
        self._listed[span] = covered, calls
        done = sum((covered for covered, _ in self._listed.values()), start=timedelta())
        share = min(1.0, done / self._to_list) if self._to_list else 1.0
        self._tell("listing", share, f"{sum(calls for _, calls in self._listed.values()):,} calls listed")

    def reached(self, step: str, share: float = 0.0) -> None:
        """The run is at this step."""
        self._tell(step, share, step)

    def _tell(self, step: str, share: float, words: str) -> None:
        start, end = next((start, end) for name, start, end in self.STEPS if name == step)
        self._share = max(self._share, start + (end - start) * share)
        self._part.tell(self._share, words)

    async def show(self) -> None:
        """Keep Prefect's UI up to date until cancelled."""
        shown = -1.0
        while True:
            if self._artifact_id is not None and self._share != shown:
                shown = self._share
                await _if_possible(aupdate_progress_artifact(self._artifact_id, progress=round(shown * 100, 1)))
            await asyncio.sleep(UPDATE_SECONDS)

    async def end(self) -> None:
        """Show that all is done."""
        self._part.tell(1.0, "done")
        if self._artifact_id is not None:
            await _if_possible(aupdate_progress_artifact(self._artifact_id, progress=100.0))


def tell_listeners(share: float, words: str) -> None:
    """How far a run is that shows it nowhere else."""
    for listener in listeners:
        listener(share, words)


@asynccontextmanager
async def progress_shown(run_id: UUID) -> AsyncIterator[Progress]:
    """Show the progress of a run while the block lasts."""
    progress = Progress(
        await _if_possible(
            acreate_progress_artifact(
                0.0, key="reconciliation-progress", description="How far the reconciliation is."
            )
        )
    )
    _running[run_id] = progress
    showing = asyncio.create_task(progress.show())
    try:
        yield progress
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        del _running[run_id]
    await progress.end()


async def _if_possible(shown: Awaitable[UUID]) -> UUID | None:
    """The id of the artifact; None if Prefect would not have it: a bar that cannot be shown fails no night."""
    try:
        return await shown
    except Exception as error:  # noqa: BLE001 - away, busy, or the artifact was deleted
        log.warning("progress.not_shown error=%s", type(error).__name__)
        return None


def progress_of(run_id: UUID) -> Progress | None:
    """The progress of a run of this process; None in another one, as a Dask worker is."""
    return _running.get(run_id)
