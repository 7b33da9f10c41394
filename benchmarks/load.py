"""A load generator that costs little: raw HTTP/1.1 over kept connections, one request at a time on each."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What a run measured; `latencies` in seconds, sorted."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int]

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the requests stays below, in milliseconds."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] * 1000


def http_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {content}" for name, content in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def hammer(port: int, requests: Iterable[bytes], connections: int) -> Load:
    """Send all requests over so many connections, each as soon as its connection has the last answer."""
    source = iter(requests)
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    started = time.perf_counter()
    await asyncio.gather(*(_use_connection(port, source, latencies, statuses) for _ in range(connections)))
    return Load(time.perf_counter() - started, sorted(latencies), statuses)


async def _use_connection(
    port: int, source: Iterator[bytes], latencies: list[float], statuses: dict[int, int]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in source:
        sent = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - sent)
        status = int(head[9:12])
        statuses[status] = statuses.get(status, 0) + 1
        if b"connection: close" in head.lower():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
