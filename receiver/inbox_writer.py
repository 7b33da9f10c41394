"""Group commit: requests that wait at the same time share one INSERT and one fsync; a lone one waits for nobody."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from billing.deliveries import Delivery
from billing.errors import BillingError, TransientError

log = logging.getLogger("billing.receiver")

MAX_BATCH_BYTES = 16_000_000
"""Of bodies in one INSERT; a larger crowd is stored in several."""

MAX_WAITING = 2000
MAX_WAITING_BYTES = 64_000_000
"""What may wait for the database, in deliveries and in bytes of bodies; what comes on top is sent away."""

RETRY_DELAYS_SECONDS = (0.0, 0.25, 1.0)
"""Vapi does not send again by default, so a database that is restarted is worth a moment. The first repetition comes
at once: after a restart the pool's connections are dead, and new ones are not."""

PATIENCE_SECONDS = 8.0
"""Then a request is sent away: Stripe keeps a customer in Checkout waiting for ten seconds, no longer."""

Waiting = tuple[Delivery, "asyncio.Future[None]"]


class StoreUnavailable(Exception):
    """The delivery is not stored, and its sender should come again."""


class InboxWriter:
    """Stores deliveries in the order of their arrival; `store` returns when Postgres has them on disk.

    Owns one task, started by `start` and ended by `drain`, which leaves nothing unanswered.
    """

    def __init__(
        self,
        accept: Callable[[Sequence[Delivery]], None],
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        retry_delays_seconds: Sequence[float] = RETRY_DELAYS_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`accept` stores a batch in one transaction; it runs in a thread of the writer's own."""
        self._accept = accept
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._retry_delays_seconds = retry_delays_seconds
        self._patience_seconds = patience_seconds
        self._arrival = asyncio.Event()
        self._draining = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbox writer")

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_batches(), name="inbox writer")

    async def drain(self) -> None:
        """Store what was taken in, then stop."""
        self._draining = True
        self._arrival.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def store(self, delivery: Delivery) -> None:
        """Store one delivery durably.

        Raises:
            StoreUnavailable: too many wait already, or the database did not take it in time. It may still do so
                later: what comes again then is only counted.
        """
        full = len(self._waiting) >= self._max_waiting or self._waiting_bytes >= self._max_waiting_bytes
        if self._draining or full:
            raise StoreUnavailable
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, stored))
        self._waiting_bytes += len(delivery.body)
        self._arrival.set()
        try:
            async with asyncio.timeout(self._patience_seconds):
                await stored
        except TimeoutError:
            raise StoreUnavailable from None

    async def _write_batches(self) -> None:
        while True:
            await self._arrival.wait()
            if not self._waiting:
                if self._draining:
                    return
                self._arrival.clear()
                continue
            await self._write(self._take_batch())

    def _take_batch(self) -> list[Waiting]:
        size, count = 0, 0
        for delivery, _ in self._waiting:
            if count and size + len(delivery.body) > MAX_BATCH_BYTES:
                break
            size += len(delivery.body)
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        return batch

    async def _write(self, batch: list[Waiting]) -> None:
        error = await self._try_to_accept([delivery for delivery, _ in batch])
        if len(batch) > 1 and error is not None and not _is_outage(error):
            half = len(batch) // 2  # one of them spoils the batch: find it by halves, so that it fails alone
            await self._write(batch[:half])
            await self._write(batch[half:])
            return
        if error is not None:
            # The class alone: messages and tracebacks of a statement hold its parameters, that is, bodies.
            log.error("webhook.not_stored count=%d error=%s", len(batch), type(error).__name__)
        for _, stored in batch:
            if stored.done():  # the sender has hung up
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(StoreUnavailable())

    async def _try_to_accept(self, deliveries: Sequence[Delivery]) -> Exception | None:
        """Store them, and over a short outage try again; answers with the last error, if it came to nothing."""
        loop = asyncio.get_running_loop()
        error: Exception | None = None
        for delay_seconds in (None, *self._retry_delays_seconds):
            if delay_seconds is not None:
                await asyncio.sleep(delay_seconds)
            try:
                await loop.run_in_executor(self._thread, self._accept, deliveries)
            except BillingError as refused:
                error = refused
            except Exception as unexpected:  # noqa: BLE001 - whatever it is, the senders must not be left hanging
                error = unexpected
            else:
                return None
            if not isinstance(error, TransientError):
                break
        return error


def _is_outage(error: Exception) -> bool:
    return isinstance(error, BillingError) and error.affects_everything
