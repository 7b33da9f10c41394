"""`GET /metrics`: what this receiver does, and what the books say. Counting costs a request a few microseconds.

Each receiver counts for itself. Where several share a port, a scrape meets any one of them (`calltally_receiver_info`
says which): give each a port of its own behind a proxy. The figures of the books are the same everywhere: take their
maximum, not their sum.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from billing.deliveries import Delivery
from billing.metrics import FRESH_SECONDS, DatabaseFigures
from billing.prefect_probe import PrefectProbe
from billing.process import process_name
from billing.scrapers import asks_from_here
from billing.settings import Settings

OUTCOMES: Final = {
    200: "stored",
    400: "unreadable",
    401: "signature_refused",
    408: "too_slow",
    413: "too_large",
    503: "unavailable",
}
"""What an answer says in a word."""

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Accept = Callable[[Sequence[Delivery]], None]


class ReceiverMetrics:
    """The counters of one application."""

    def __init__(self, engine: Engine, settings: Settings, prefect: PrefectProbe) -> None:
        """`prefect` stays the caller's."""
        self._settings = settings
        self._prefect = prefect
        self.registry = CollectorRegistry()
        self._figures = DatabaseFigures(engine)
        self.registry.register(self._figures)
        ProcessCollector(registry=self.registry)
        Info("calltally_receiver", "Which process answered.", registry=self.registry).info(
            {"process": process_name()}
        )
        self._requests = Counter(
            "calltally_webhook_requests",
            "Webhook requests by what became of them.",
            ["provider", "outcome"],
            registry=self.registry,
        )
        self._acknowledging = Histogram(
            "calltally_webhook_acknowledgement_seconds",
            "From the first byte of a webhook to its 200, when it is on disk.",
            ["provider"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._commits = Histogram(
            "calltally_webhook_commit_deliveries",
            "Deliveries that shared one INSERT and one fsync.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
            registry=self.registry,
        )
        self._in_flight = 0
        Gauge("calltally_webhook_in_flight", "Webhook requests being answered.", registry=self.registry).set_function(
            lambda: self._in_flight
        )
        self._prefect_up = Gauge(
            "calltally_prefect_up",
            "Whether Prefect, its database included, answered in time.",
            registry=self.registry,
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._figures.close()

    def observed(self, provider: str, app: ASGIApp) -> ASGIApp:
        """`app`, with its answers counted."""
        outcomes = {status: self._requests.labels(provider, outcome) for status, outcome in OUTCOMES.items()}
        other = self._requests.labels(provider, "error")
        hung_up = self._requests.labels(provider, "hung_up")
        observe = self._acknowledging.labels(provider).observe

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            started = time.perf_counter()
            status = 0

            async def noting(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            self._in_flight += 1
            try:
                await app(scope, receive, noting)
            except Exception:
                status = 500
                raise
            finally:
                self._in_flight -= 1
                outcomes.get(status, other if status else hung_up).inc()
                if status == 200:  # noqa: PLR2004
                    observe(time.perf_counter() - started)

        return _Application(counted)

    def counting(self, accept: Accept) -> Accept:
        """`accept`, with the size of each batch that was stored."""

        def counted(deliveries: Sequence[Delivery]) -> None:
            accept(deliveries)
            self._commits.observe(len(deliveries))

        return counted

    async def endpoint(self, request: Request) -> Response:
        """The text that Prometheus reads."""
        if not self._may_read(request):
            return JSONResponse({"error": "send Authorization: Bearer and the METRICS_TOKEN"}, 401)
        _, trouble = await asyncio.gather(self._figures.refresh(), self._prefect.trouble(fresh_seconds=FRESH_SECONDS))
        self._prefect_up.set(trouble is None)
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    def _may_read(self, request: Request) -> bool:
        """Whoever has the token; without one, whoever is on this machine: the figures are business figures."""
        token = self._settings.metrics_token
        if token is None:
            peer = request.client.host if request.client else ""
            bound, version = self._settings.receiver_host, request.scope["http_version"]
            return asks_from_here(self._settings, bound, peer, version, request.headers)
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(sent.encode(), token.get_secret_value().encode())


class _Application:
    """Starlette takes a function for a handler of requests, and an object for an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
