"""A worker's pause while it can apply nothing: ever longer, told to people, and over with the first good run."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Engine

from billing.alert_messages import write_message
from billing.alerts import Alert, note_condition
from billing.errors import BillingError, InstallationBroken
from billing.process import process_name
from billing.settings import Settings
from billing.slack import post, send_waiting
from billing.worker_paused import NAME, describe, facts_of

log = logging.getLogger("billing.worker")

DELAYS_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before each further try; the last one again and again."""
PATIENCE: Final = timedelta(minutes=1)
"""With a database that is away, since a restart takes seconds. What it refuses does not come back by itself."""


class Pause:
    """Of one worker, several runs of which may fail at once."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        """Nothing has failed yet."""
        self._engine = engine
        self._settings = settings
        self._write = partial(write_message, runbook_url=settings.runbook_url)
        self._failures = 0
        self._since: datetime | None = None
        self.until = 0.0
        """In the loop's time."""
        self._noted_at: datetime | None = None
        self._posted = False
        self._may_be_open = True
        """Whether the books may hold an incident of ours, or of a worker before us, that nobody has closed."""

    async def begin(self, error: BillingError, now: datetime | None = None) -> None:
        """Something could not be applied: the next run waits, and people are told once it is sure not to pass."""
        seconds = DELAYS_SECONDS[min(self._failures, len(DELAYS_SECONDS) - 1)]
        self._failures += 1
        self.until = asyncio.get_running_loop().time() + seconds
        now = now or datetime.now(UTC)
        since = self._since = self._since or now
        log.error("worker.paused seconds=%g failures=%d: %s", seconds, self._failures, describe(error))
        is_certain = isinstance(error, InstallationBroken) or now - since >= PATIENCE
        if is_certain and (self._noted_at is None or now - self._noted_at >= PATIENCE):
            self._noted_at, self._may_be_open = now, True
            await self._quietly(partial(self._tell, error, since))

    async def over(self) -> None:
        """Return when the next run may begin."""
        loop = asyncio.get_running_loop()
        while (left := self.until - loop.time()) > 0:  # noqa: ASYNC110 - another failure makes it longer
            await asyncio.sleep(left)

    async def end(self) -> None:
        """A run has applied all that it took."""
        if self._failures:
            log.warning("worker.resumed failures=%d", self._failures)
        self._failures, self._since, self._noted_at, self._posted = 0, None, None, False
        if self._may_be_open:
            self._may_be_open = not await self._quietly(self._tell_end)

    async def _quietly(self, tell: Callable[[], None]) -> bool:
        """Whether people could be told; whatever happens to an alert, the work goes on."""
        try:
            await asyncio.to_thread(tell)
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("worker.not_told error=%s", type(error).__name__)
            return False
        return True

    def _tell(self, error: BillingError, since: datetime) -> None:
        """By an incident; if the books do not take it either, by a message without them, once."""
        facts = facts_of(process_name(), error, since)
        try:
            note_condition(self._engine, NAME, failing=True, facts=facts, severity="critical")
            send_waiting(self._engine, self._settings, self._write)
        except BillingError as refused:
            log.warning("worker.pause_not_noted error=%s", type(refused).__name__)
            url = self._settings.slack_webhook_url
            if url is None or self._posted:
                return
            alert = Alert(0, NAME, "raised", "critical", facts, since=since, times_seen=1)
            posted = post(url.get_secret_value(), self._write(alert))
            self._posted = posted.outcome == "sent"
            log.info("alert.decided key=%s kind=raised outcome=%r", NAME, posted.outcome)

    def _tell_end(self) -> None:
        facts = facts_of(process_name(), None, None)
        if note_condition(self._engine, NAME, failing=False, facts=facts) is not None:
            send_waiting(self._engine, self._settings, self._write)
