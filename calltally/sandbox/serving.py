"""Serving an ASGI application on a loopback port from a background thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"

_START_LIMIT_SECONDS = 10.0
_STOP_LIMIT_SECONDS = 5.0
_POLL_SECONDS = 0.005


def server_config(app: ASGIApp, *, access_log: bool = False) -> uvicorn.Config:
    """Return the settings of a quiet server."""
    return uvicorn.Config(
        app,
        access_log=access_log,
        # Connections broken on purpose would otherwise be reported as errors of the server.
        log_level="info" if access_log else "critical",
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )


@contextmanager
def running_app(app: ASGIApp, *, port: int = 0, access_log: bool = False) -> Iterator[int]:
    """Serve until the block ends and yield the port; port 0 takes a free one."""
    with socket.create_server((LOOPBACK, port)) as listener:
        server = uvicorn.Server(server_config(app, access_log=access_log))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(_STOP_LIMIT_SECONDS)


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_LIMIT_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the sandbox did not start")
        time.sleep(_POLL_SECONDS)
