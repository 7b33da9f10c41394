"""Things that go wrong on the way: rate limits, server errors, HTML pages, slow and broken answers."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from calltally.sandbox.wire import JsonObject, encode_json

REMEMBERED_REQUESTS = 10_000

_HTML = """<!DOCTYPE html>
<html><head><title>{status}: the origin is down</title></head>
<body><h1>Error {status}</h1><p>The web server is not answering.</p></body></html>
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One spoiled answer.

    Without `status` the request is answered as usual, only `delay_seconds` late. With `breaks_connection`
    the connection closes in the middle of the body. `path_prefix` limits the fault to matching paths,
    such as `/call`.
    """

    status: int | None = None
    body: bytes = b""
    content_type: str = "application/json"
    retry_after_seconds: float | None = None
    delay_seconds: float = 0.0
    breaks_connection: bool = False
    path_prefix: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


def json_fault(
    status: int,
    body: JsonObject,
    *,
    retry_after_seconds: float | None = None,
    path_prefix: str = "/",
) -> Fault:
    """Return a fault that answers with this JSON body."""
    return Fault(status, encode_json(body), retry_after_seconds=retry_after_seconds, path_prefix=path_prefix)


def text_fault(status: int, text: str, *, retry_after_seconds: float | None = None, path_prefix: str = "/") -> Fault:
    """Return a fault that answers with plain text, as Slack does."""
    return Fault(
        status,
        text.encode(),
        content_type="text/plain",
        retry_after_seconds=retry_after_seconds,
        path_prefix=path_prefix,
    )


def html_fault(status: int = 521, *, path_prefix: str = "/") -> Fault:
    """Return a fault that answers with an HTML page, as a proxy does when the API behind it is down."""
    body = _HTML.format(status=status).encode()
    return Fault(status, body, content_type="text/html; charset=UTF-8", path_prefix=path_prefix)


def slow_answer(delay_seconds: float, *, path_prefix: str = "/") -> Fault:
    """Return a fault that only delays the usual answer."""
    return Fault(delay_seconds=delay_seconds, path_prefix=path_prefix)


def broken_connection(*, path_prefix: str = "/") -> Fault:
    """Return a fault that closes the connection before the answer is complete."""
    return Fault(status=200, body=b"[", breaks_connection=True, path_prefix=path_prefix)


@dataclass(slots=True)
class FaultQueue:
    """Faults waiting for requests, first come first served; safe to fill from other threads.

    `latency_seconds` delays every answer. `requests` keeps the latest requests as `METHOD path?query`.
    """

    latency_seconds: float = 0.0
    requests: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED_REQUESTS))
    _waiting: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault, times: int = 1) -> None:
        """Spoil the next `times` requests that match."""
        with self._lock:
            self._waiting.extend([fault] * times)

    def clear(self) -> None:
        """Forget all waiting faults and the latency."""
        with self._lock:
            self._waiting.clear()
            self.latency_seconds = 0.0

    def __len__(self) -> int:
        """Return how many faults still wait."""
        return len(self._waiting)

    def take(self, path: str) -> Fault | None:
        """Return the first waiting fault for this path and forget it."""
        with self._lock:
            for position, fault in enumerate(self._waiting):
                if path.startswith(fault.path_prefix):
                    return self._waiting.pop(position)
        return None


class FaultyEdge:
    """ASGI wrapper that notes each request and lets the queue spoil its answer."""

    def __init__(self, app: ASGIApp, faults: FaultQueue) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the next matching fault, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        query = scope["query_string"].decode("latin-1")
        self._faults.requests.append(f"{scope['method']} {path}" + (f"?{query}" if query else ""))
        fault = self._faults.take(path)
        delay_seconds = self._faults.latency_seconds + (fault.delay_seconds if fault else 0.0)
        if delay_seconds:
            await asyncio.sleep(delay_seconds)
        if fault is None or fault.status is None:
            await self._app(scope, receive, send)
        else:
            await _answer(fault, fault.status, send)


async def _answer(fault: Fault, status: int, send: Send) -> None:
    # Promising one byte more than is sent makes the server close the connection.
    length = len(fault.body) + (1 if fault.breaks_connection else 0)
    headers = [
        (b"content-type", fault.content_type.encode()),
        (b"content-length", str(length).encode()),
    ]
    if fault.retry_after_seconds is not None:
        headers.append((b"retry-after", f"{fault.retry_after_seconds:g}".encode()))
    headers += [(name.lower().encode(), text.encode()) for name, text in fault.headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": fault.body, "more_body": fault.breaks_connection})
