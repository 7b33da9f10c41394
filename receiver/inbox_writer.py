"""Group commit: requests that wait at the same time share one INSERT and one fsync; a lone one waits for nobody."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from billing.deliveries import Delivery
from billing.errors import BillingError

log = logging.getLogger("billing.receiver")

MAX_BATCH_BYTES = 16_000_000
"""Of bodies in one INSERT; a larger crowd is stored in several."""


class StoreUnavailable(Exception):
    """The delivery is not stored, and its sender should come again."""


class InboxWriter:
    """Stores deliveries in the order of their arrival; `store` returns when Postgres has them on disk.

    Owns one task, started by `start` and ended by `drain`, which leaves nothing unanswered.
    """

    def __init__(self, accept: Callable[[Sequence[Delivery]], None], max_waiting: int = 2000) -> None:
        """`accept` stores a batch in one transaction; it runs in a thread."""
        self._accept = accept
        self._waiting: list[tuple[Delivery, asyncio.Future[None]]] = []
        self._max_waiting = max_waiting
        self._arrival = asyncio.Event()
        self._draining = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_batches(), name="inbox writer")

    async def drain(self) -> None:
        """Store what was taken in, then stop."""
        self._draining = True
        self._arrival.set()
        if self._task is not None:
            await self._task

    async def store(self, delivery: Delivery) -> None:
        """Store one delivery durably.

        Raises:
            StoreUnavailable: too many wait already, or the database did not take it.
        """
        if self._draining or len(self._waiting) >= self._max_waiting:
            raise StoreUnavailable
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, stored))
        self._arrival.set()
        await stored

    async def _write_batches(self) -> None:
        while True:
            await self._arrival.wait()
            if not self._waiting:
                if self._draining:
                    return
                self._arrival.clear()
                continue
            await self._write(self._take_batch())

    def _take_batch(self) -> list[tuple[Delivery, asyncio.Future[None]]]:
        size, count = 0, 0
        for delivery, _ in self._waiting:
            size += len(delivery.body)
            if count and size > MAX_BATCH_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _write(self, batch: list[tuple[Delivery, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            await asyncio.to_thread(self._accept, [delivery for delivery, _ in batch])
        except BillingError as refused:
            log.warning("webhook.not_stored count=%d error=%s", len(batch), type(refused).__name__)
            error = StoreUnavailable()
        except Exception:  # whatever it is, the senders must not be left hanging
            log.exception("webhook.not_stored count=%d", len(batch))
            error = StoreUnavailable()
        for _, stored in batch:
            _settle(stored, error)


def _settle(stored: "asyncio.Future[Any]", error: Exception | None) -> None:
    if stored.done():  # the sender hung up
        return
    if error is None:
        stored.set_result(None)
    else:
        stored.set_exception(error)
