"""The receiver as it runs: its application under uvicorn, on a loopback port, with start and shutdown."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse

import httpx
import uvicorn
from starlette.types import ASGIApp

from billing.settings import Settings
from receiver.connections import Limits, server_config

LOOPBACK = "127.0.0.1"
LIMIT_SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """Status, headers in lower case, and body."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_answer(connection: socket.socket) -> Answer:
    """One whole answer."""
    answer = HTTPResponse(connection)
    answer.begin()
    body = answer.read()
    return Answer(answer.status, {name.lower(): content for name, content in answer.getheaders()}, body)


def post(path: str, body: bytes, headers: Mapping[str, str | bytes | None], *, length: int | None = None) -> bytes:
    """The bytes of a POST; a header that is None is left out, and one that is bytes is sent as it is."""
    sent: dict[str, str | bytes | None] = {
        "Host": LOOPBACK,
        "Content-Type": "application/json",
        "Content-Length": str(len(body) if length is None else length),
        **headers,
    }
    lines = [
        name.encode() + b": " + (content if isinstance(content, bytes) else content.encode("latin-1"))
        for name, content in sent.items()
        if content is not None
    ]
    return b"\r\n".join([f"POST {path} HTTP/1.1".encode(), *lines, b"", body])


@dataclass
class Served:
    """A running receiver."""

    port: int
    server: uvicorn.Server
    thread: threading.Thread

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    def client(self) -> httpx.Client:
        """A client of it; close it."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=LIMIT_SECONDS, verify=False)

    def connect(self) -> socket.socket:
        """A bare connection, for what no HTTP client would send."""
        return socket.create_connection((LOOPBACK, self.port), timeout=LIMIT_SECONDS)

    def exchange(self, request: bytes) -> "Answer":
        """Send these bytes on a connection of their own, and read the answer to its end."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_answer(connection)

    def begin_shutdown(self) -> None:
        """What SIGTERM does."""
        self.server.should_exit = True

    def shut_down(self) -> None:
        """Shut down and wait until all is answered and stored."""
        self.begin_shutdown()
        self.thread.join(LIMIT_SECONDS)
        assert not self.thread.is_alive()


@contextmanager
def serving(app: ASGIApp, settings: Settings, limits: Limits | None = None) -> Iterator[Served]:
    """Serve until the block ends."""
    with socket.create_server((LOOPBACK, 0), backlog=512) as listener:
        server = uvicorn.Server(server_config(app, settings, limits))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="receiver", daemon=True)
        thread.start()
        served = Served(listener.getsockname()[1], server, thread)
        deadline = time.monotonic() + LIMIT_SECONDS
        while not server.started:
            assert thread.is_alive(), "the receiver did not start"
            assert time.monotonic() < deadline, "the receiver did not start in time"
            time.sleep(0.005)
        try:
            yield served
        finally:
            served.shut_down()


def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; fail if it never does."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)
