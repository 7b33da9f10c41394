"""What a connection may take before anything on it is checked: bytes and time for a head, a place among the others.

uvicorn bounds none of this: it reads headers of any length, waits for their end for ever, and counts connections that
say nothing as if they were requests. So its protocol is used with bounds around it. Whoever is idle makes room: only
a request whose head is complete holds a place, and no number of idle connections keeps a webhook out.
"""

import logging
import resource
import time
from asyncio import TimerHandle, Transport
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, cast

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from billing.settings import Settings

log = logging.getLogger("billing.receiver")

OTHER_FILES: Final = 256
"""Descriptors that are kept free for the database, Prefect and logs."""
LOG_EVERY_SECONDS: Final = 10.0
TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: 21\r\n\r\n"
    b'{"error": "too slow"}'
)


@dataclass(frozen=True)
class Limits:
    """Of one receiver."""

    requests: int = 4000
    """Begun and not answered, at once; more are answered 503, which the providers' retries are for."""
    connections: int = 6000
    """At once. One more, and whoever has been idle for longest is closed."""
    connections_of_address: int = 256
    """The same for one address, but for trusted proxies, which stand for many."""
    trusted: Sequence[IPv4Network | IPv6Network] = ()
    head_bytes: int = 16_384
    """Request line and headers together; trailers of a chunked body count as well."""
    line_bytes: int = 8_192
    head_seconds: float = 10.0
    """From a connection's beginning, its last answer, or the first byte of a head, to the end of that head."""
    request_seconds: float = 60.0
    """From the end of a head until its answer is taken; bodies have a shorter limit of their own."""
    pipelined: int = 8
    """Requests that wait on one connection behind the one that is answered."""


class TooMuch(Exception):
    """A head, or what waits on a connection, is larger than anybody needs."""


def server_config(app: ASGIApp, settings: Settings, limits: Limits | None = None) -> uvicorn.Config:
    """How the receiver serves `app`; `limits` are the usual ones if none are given."""
    chosen = limits or Limits(connections=min(Limits.connections, _descriptors() - OTHER_FILES))
    door = Door(replace(chosen, trusted=settings.trusted_networks))
    return uvicorn.Config(
        app,
        http=cast("Any", partial(BoundedConnection, door=door)),
        ws="none",
        proxy_headers=False,  # nobody's word about where a request comes from counts here
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=15,
    )


@dataclass
class Door:
    """Who is in, and who has been idle for how long."""

    limits: Limits
    _inside: dict[str, dict["BoundedConnection", None]] = field(default_factory=dict)
    _idle: OrderedDict["BoundedConnection", None] = field(default_factory=OrderedDict)
    _count: int = 0
    _closed: int = 0
    _logged_at: float = float("-inf")

    def enter(self, connection: "BoundedConnection") -> bool:
        """Let it in, whoever has been idle for longest making room; False if nobody is idle."""
        peers = self._inside.get(connection.address, {})
        crowded = len(peers) >= self.limits.connections_of_address and not self._is_trusted(connection.address)
        if crowded and not self._close(next((peer for peer in peers if peer in self._idle), None), "address"):
            return False
        if self._count >= self.limits.connections and not self._close(next(iter(self._idle), None), "connections"):
            return False
        self._inside.setdefault(connection.address, {})[connection] = None
        self._count += 1
        self.rest(connection)
        return True

    def leave(self, connection: "BoundedConnection") -> None:
        """It is gone; saying so twice, or of one that was not let in, does nothing."""
        peers = self._inside.get(connection.address, {})
        if connection not in peers:
            return
        del peers[connection]
        self._count -= 1
        self._idle.pop(connection, None)
        if not peers:
            del self._inside[connection.address]

    def rest(self, connection: "BoundedConnection") -> None:
        """It has no request underway from now on."""
        if connection in self._inside.get(connection.address, {}):
            self._idle[connection] = None
            self._idle.move_to_end(connection)

    def work(self, connection: "BoundedConnection") -> None:
        """It has one."""
        self._idle.pop(connection, None)

    def _close(self, connection: "BoundedConnection | None", limit: str) -> bool:
        self._closed += 1
        if time.monotonic() - self._logged_at > LOG_EVERY_SECONDS:
            self._logged_at = time.monotonic()
            log.warning("connections.full limit=%s inside=%d closed=%d", limit, self._count, self._closed)
        if connection is not None:
            self.leave(connection)
            connection.transport.abort()
        return connection is not None

    def _is_trusted(self, address: str) -> bool:
        try:
            network = ip_network(address)
        except ValueError:
            return False  # no network at all, such as a socket in a file
        return any(
            network.version == trusted.version and network.subnet_of(cast("Any", trusted))
            for trusted in self.limits.trusted
        )


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection within limits."""

    def __init__(self, *arguments: Any, door: Door, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.address = ""
        self._door = door
        self._limits = door.limits
        self._answering_app = self.app
        self._in_head = False
        self._head_bytes = 0
        self._unread_bytes = 0
        self._timer: TimerHandle | None = None
        self._underway: RequestResponseCycle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Somebody comes."""
        super().connection_made(transport)
        self.address = _address(self.client)
        if self._door.enter(self):
            self._allow(self._limits.head_seconds)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """And goes."""
        self._door.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._underway is not None:
            self._underway.disconnected = True  # the server tells only the last one that waits on this connection
            self._underway.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What does not lead the parser to the end of a head or to some body is not waited for endlessly."""
        if self.transport.is_closing():
            return
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        if not self._is_answering():
            self._allow(self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        """Of the request line."""
        self._count_line(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head, or of the trailers behind a body."""
        self._count_line(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request has begun: it counts from now on."""
        self._in_head = False
        self._unread_bytes = 0
        if len(self.pipeline) >= self._limits.pipelined:
            raise TooMuch
        self.app = self._answering_app if len(self.tasks) < self._limits.requests else _crowded
        self._door.work(self)
        self._allow(self._limits.request_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bodies are counted where they are read."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Answered."""
        super().on_response_complete()
        if not self._is_answering() and not self.transport.is_closing():
            self._door.rest(self)
            self._allow(self._limits.head_seconds)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._underway = cycle
        super()._start_asgi_task(cycle, app)

    def _count_line(self, length: int) -> None:
        self._head_bytes += length
        if length > self._limits.line_bytes or self._head_bytes > self._limits.head_bytes:
            raise TooMuch

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self) -> None:
        if self._is_answering():
            self._abort()  # an answer in between would pass for that of the request before
        else:
            self.send_400_response("The head of the request is too large.")

    def _allow(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._in_head and not self._is_answering() and not self.transport.is_closing():
            self.transport.write(TOO_SLOW)
            self.transport.close()
            self._timer = self.loop.call_later(self._limits.head_seconds, self.transport.abort)
        else:
            self._abort()

    def _abort(self) -> None:
        if self._underway is not None:
            self._underway.disconnected = True  # nobody hears its answer any more, and writing it would be an error
        self.transport.abort()


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "5", "Connection": "close"}
    answer = Response(b'{"error": "try again later"}', 503, headers=headers, media_type="application/json")
    await answer(scope, receive, send)


def _address(client: tuple[str, int] | None) -> str:
    """What counts as one address: of IPv6 the 64 bits that whoever has one has all of."""
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(IPv6Network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _descriptors() -> int:
    """How many files this process may have open, after it has asked for as many as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Limits.connections + 2 * OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        except (OSError, ValueError):
            return soft
        return allowed
    return wanted if soft == resource.RLIM_INFINITY else soft
