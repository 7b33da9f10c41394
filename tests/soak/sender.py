"""Sends deliveries at their time over kept connections, again and again until each is answered as it must be."""

import asyncio
import heapq
import itertools
import time
from collections import Counter

from .traffic import Delivery

CONNECTIONS = 16
ANSWER_SECONDS = 25.0
PAUSE_SECONDS = 0.5
"""Before the next attempt; a provider takes longer."""
UNAVAILABLE = 503


class Sender:
    """Owns connections; `close` returns once everything was answered."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.statuses: Counter[int] = Counter()
        """Final answers."""
        self.troubles: Counter[str] = Counter()
        """Attempts that had to be repeated, by their reason."""
        self._port = port
        self._later: list[tuple[float, int, Delivery]] = []
        self._numbers = itertools.count()
        self._due: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._use_connection()) for _ in range(CONNECTIONS)]

    @property
    def unsent(self) -> int:
        """Deliveries whose turn has come and that no connection was free for."""
        return self._due.qsize()

    def send(self, delivery: Delivery) -> None:
        """Send it now, or when it is late enough."""
        if delivery.late_seconds:
            due = time.monotonic() + delivery.late_seconds
            heapq.heappush(self._later, (due, next(self._numbers), delivery))
        else:
            self._due.put_nowait(delivery)

    def send_late_ones(self, *, all_of_them: bool = False) -> None:
        """Send those whose time has come."""
        while self._later and (all_of_them or self._later[0][0] <= time.monotonic()):
            self._due.put_nowait(heapq.heappop(self._later)[2])

    async def close(self) -> None:
        """Send everything that is left, and end."""
        self.send_late_ones(all_of_them=True)
        for _ in self._tasks:
            self._due.put_nowait(None)
        await asyncio.gather(*self._tasks)

    async def _use_connection(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while (delivery := await self._due.get()) is not None:
            while True:
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        connection = connection or await asyncio.open_connection("127.0.0.1", self._port)
                        status = await _exchange(*connection, delivery)
                except (OSError, EOFError, TimeoutError) as error:
                    self.troubles[type(error).__name__] += 1
                    if connection is not None:
                        connection[1].close()
                    connection, status = None, UNAVAILABLE
                if status != UNAVAILABLE:
                    break
                self.troubles["503 or no answer"] += 1
                await asyncio.sleep(PAUSE_SECONDS)
            self.statuses[status] += 1
            self.answered += 1
        if connection is not None:
            connection[1].close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delivery: Delivery) -> int:
    headers = delivery.signer.headers(delivery.body, time.time())
    lines = [f"POST {delivery.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(delivery.body)}"]
    lines += [f"{name}: {content}" for name, content in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + delivery.body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12])
