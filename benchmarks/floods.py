"""Strangers who know no secret, and what they cost those who do: each flood beside the same webhooks without it.

What is sent is bounded: 150 MB of one header, 900 requests that never end, 4,200 connections that say nothing.
"""

import asyncio
import resource
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.load import Load, hammer, http_request
from benchmarks.serving import serving
from benchmarks.table import Figure
from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.sharing import DATABASE_NAME

PORT = 3985
SECRET = "bench"  # noqa: S105 - opens nothing but this run
REQUESTS = 2_000
CONNECTIONS = 8
HEADER_BYTES = 150_000_000
CHUNK = b"x" * 1_000_000
HALF_SENT = 900
IDLE = 4_200
HEAD = b"POST /webhooks/vapi HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Endless: "

Flood = Callable[[], AbstractAsyncContextManager[object]]


def figures() -> Iterator[Figure]:
    """The slowest webhook in a hundred, and the receiver's time, under each flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * IDLE)), hard))
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres", options={"fsync": "off"})
        server.start()
        server.ensure_database(DATABASE_NAME)
        url = server.url(DATABASE_NAME)
        migrate(url)
        environment = {"DATABASE_URL": url, "VAPI_WEBHOOK_SECRETS": SECRET, "RECEIVER_PORT": str(PORT)}
        with serving(PORT, "calltally", "receiver", **environment) as process_id:
            yield from _under_floods(psutil.Process(process_id))
        server.stop("immediate")


def _under_floods(receiver: psutil.Process) -> Iterator[Figure]:
    asyncio.run(_measure("warm", _nobody))
    before = _cpu(receiver)
    calm = asyncio.run(_measure("calm", _nobody))
    calm_ms = (_cpu(receiver) - before) * 1000
    floods: dict[str, Flood] = {
        "one header of 150 MB": _endless_header,
        f"{HALF_SENT} half-sent requests": _half_sent,
        f"{IDLE:,} idle connections": _idle,
    }
    for name, flood in floods.items():
        before = _cpu(receiver)
        load = asyncio.run(_measure(name, flood))
        yield Figure(f"p99 beside {name}", load.quantile_ms(0.99), calm.quantile_ms(0.99), "without", " ms")
        yield Figure(f"slowest beside {name}", load.quantile_ms(1), calm.quantile_ms(1), "without", " ms")
        yield Figure(f"receiver's time beside {name}", (_cpu(receiver) - before) * 1000, calm_ms, "without", " ms")
        yield Figure(f"stored beside {name}", load.statuses.get(200, 0), REQUESTS, "sent", "")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _measure(name: str, flood: Flood) -> Load:
    slug = name.replace(" ", "-")
    requests = [
        http_request(
            "/webhooks/vapi",
            {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"},
            b'{"message":{"type":"status-update","call":{"id":"%s-%d"}}}' % (slug.encode(), number),
        )
        for number in range(REQUESTS)
    ]
    async with flood():
        return await hammer(PORT, requests, CONNECTIONS)


@asynccontextmanager
async def _nobody() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _endless_header() -> AsyncIterator[None]:
    """It is sent while the webhooks are."""
    _, writer = await asyncio.open_connection("127.0.0.1", PORT)

    async def send() -> None:
        writer.write(HEAD)
        try:
            for _ in range(HEADER_BYTES // len(CHUNK)):
                writer.write(CHUNK)
                await writer.drain()
        except ConnectionError:
            return

    sending = asyncio.create_task(send())
    yield
    sending.cancel()
    writer.transport.abort()


@asynccontextmanager
async def _half_sent() -> AsyncIterator[None]:
    async with _connected(HALF_SENT, HEAD):
        yield


@asynccontextmanager
async def _idle() -> AsyncIterator[None]:
    async with _connected(IDLE, b""):
        yield


@asynccontextmanager
async def _connected(count: int, said: bytes) -> AsyncIterator[None]:
    async with AsyncExitStack() as connections:
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            connections.callback(writer.transport.abort)
            writer.write(said)
        yield
