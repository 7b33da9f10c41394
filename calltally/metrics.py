"""A worker's own `/metrics`: a thread that answers Prometheus, if `WORKER_METRICS_PORT` says where."""

import hmac
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from billing.metrics import WORKER
from billing.scrapers import asks_from_here
from billing.settings import Settings

log = logging.getLogger("billing.worker")

IDLE_SECONDS: Final = 10
"""A client that says nothing for so long is left."""


@contextmanager
def serve_metrics(settings: Settings) -> Iterator[int | None]:
    """Answer until the block ends; the port, or None if nobody asked for it.

    A port that is taken, as by a second worker on this machine, is a warning: metrics never keep the work from being
    done.
    """
    if settings.worker_metrics_port is None:
        yield None
        return
    host, port = settings.worker_metrics_host, settings.worker_metrics_port
    try:
        server = _Server(host, port, settings)
    except OSError as error:
        log.warning("worker.no_metrics address=%s:%d error=%s: choose another WORKER_METRICS_PORT", host, port, error)
        yield None
        return
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, settings: Settings) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), partial(_Handler, settings))

    def server_bind(self) -> None:
        """Bind, without asking the name service who we are: that may take its time."""
        TCPServer.server_bind(self)


class _Handler(BaseHTTPRequestHandler):
    timeout = IDLE_SECONDS

    def __init__(self, settings: Settings, *connection: Any) -> None:
        self._settings = settings
        super().__init__(*connection)

    def do_GET(self) -> None:
        """`/metrics`, and nothing else."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"")
        elif not self._may_read():
            self._answer(HTTPStatus.UNAUTHORIZED, b"send Authorization: Bearer and the METRICS_TOKEN\n")
        else:
            self._answer(HTTPStatus.OK, generate_latest(WORKER))

    def log_message(self, *_: object) -> None:
        """Nobody wants a line per scrape."""

    def _may_read(self) -> bool:
        token = self._settings.metrics_token
        if token is None:
            headers = {name.lower(): content for name, content in self.headers.items()}
            version = self.request_version.removeprefix("HTTP/")
            bound, peer = self._settings.worker_metrics_host, str(self.client_address[0])
            return asks_from_here(self._settings, bound, peer, version, headers)
        scheme, _, sent = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(sent.encode(), token.get_secret_value().encode())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
