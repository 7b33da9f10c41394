"""A worker's look at Prefect: whether it is away, and telling Slack so without it."""

import asyncio
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Engine

from billing.alert_messages import write_message
from billing.prefect_down import note_prefect
from billing.prefect_probe import PrefectProbe
from billing.process import process_name
from billing.settings import Settings
from billing.slack import send_waiting

log = logging.getLogger("billing.worker")

LOOK_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 5.0
"""Longer than a person waits for `GET /health`: a server that is busy is not away."""


class PrefectWatch:
    """One worker's watch. However many look, the books keep one incident, and one worker sends each message."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        worker: str | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Of the worker of that name; None: of this process."""
        self._engine = engine
        self._settings = settings
        self._worker = worker or process_name()
        self._prefect = PrefectProbe(settings, patience_seconds=answer_seconds)
        self._write = partial(write_message, runbook_url=settings.runbook_url)
        self._failing_since: datetime | None = None

    async def watch(self) -> None:
        """Look every minute, until cancelled."""
        try:
            while True:
                await self.look(datetime.now(UTC))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self.close()

    async def look(self, now: datetime) -> None:
        """Ask, note, and while Prefect is down send all messages that are due: it runs nothing else that would.

        Raises nothing: if the database is away too, the next look tries again, and remembers since when Prefect is.
        """
        trouble = await self._prefect.trouble()
        self._failing_since = None if trouble is None else self._failing_since or now
        try:
            await asyncio.to_thread(self._note_and_tell, trouble, now)
        except Exception as error:  # noqa: BLE001 - whatever happens to an alert, the work goes on
            log.warning("prefect_watch.failed error=%s", type(error).__name__)

    async def close(self) -> None:
        """Let go of the connection to Prefect."""
        await self._prefect.close()

    def _note_and_tell(self, trouble: str | None, now: datetime) -> None:
        noted = note_prefect(self._engine, self._worker, trouble, self._failing_since, now)
        if noted is not None:
            send_waiting(self._engine, self._settings, self._write, now)
