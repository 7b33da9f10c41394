"""The operators' API: what waits, what the nights found, and a night by hand. For holders of OPERATOR_TOKEN."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Annotated, Any
from uuid import UUID

import msgspec
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billing.database import rows, transaction
from billing.errors import BillingError, ProviderUnavailable
from billing.prefect_access import prefect_api_url, prefect_headers
from billing.prefect_api import start_deployment
from billing.settings import Settings
from receiver.queue_stats import queue_stats

log = logging.getLogger("billing.receiver")

MAX_RUNS = 100
"""Runs in one answer, newest first."""

Handler = Callable[[Request], Awaitable[Response]]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]

MAX_BODY_BYTES = 10_000
ONE_DAY = timedelta(days=1)
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""No provider keeps calls from before; nights look back from their window, which the year 1 does not bear."""
HINT = 'Send {"from": TIME, "to": TIME, "dry_run": BOOL}, times with their zone'

RUN = (
    "SELECT id, kind, state, window_from, window_to, dry_run, started_at, finished_at, provider_calls, known_calls,"
    " counts, ended_calls, ended_by_webhook, reliability_ratio::float8, reliability_low::float8,"
    " reliability_high::float8, recovered_calls, recovered_micros, outstanding_micros, money, groups, completeness,"
    " cause, alert, error, report_path, plan_digest, applies_run_id, flow_run_id FROM reconciliation_runs"
)


class Trigger(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """What to compare; all of it may be left out."""

    start: Instant | None = None
    end: Instant | None = None
    dry_run: bool = False


class OperatorsApi:
    """The routes below `/api/`; every answer is JSON."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    def routes(self) -> list[Route]:
        """Each asks for the token first."""
        nights = "/api/billing-reconciliation"
        return [
            Route("/api/monitoring/queue-stats", self._guarded(self.queue_stats)),
            Route(f"{nights}/trigger", self._guarded(self.trigger), methods=["POST"]),
            Route(f"{nights}/runs", self._guarded(self.list_runs)),
            Route(f"{nights}/runs/{{id}}", self._guarded(self.show_run)),
        ]

    async def queue_stats(self, _request: Request) -> Response:
        """Events by provider and type, and the age in seconds of the oldest unfinished ones."""
        return _json(await run_in_threadpool(queue_stats, self._engine))

    async def trigger(self, request: Request) -> Response:
        """Start the nightly deployment; answered as soon as Prefect has taken it."""
        body = await _body(request)
        if body is None:
            return _refusal(413, f"more than {MAX_BODY_BYTES} bytes. {HINT}")
        try:
            wish = msgspec.json.decode(body or b"{}", type=Trigger)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = str(error) if isinstance(error, msgspec.DecodeError) else "not JSON in UTF-8"
            return _refusal(400, f"{why}. {HINT}")
        if (wrong := _wrong_window(wish, datetime.now(UTC))) is not None:
            return _refusal(400, wrong)
        if self._settings.prefect_api_url is None:
            return _refusal(503, "PREFECT_API_URL is not set on the receiver")
        given = {"window_from": wish.start, "window_to": wish.end, "dry_run": wish.dry_run}
        parameters = msgspec.to_builtins({name: content for name, content in given.items() if content is not None})
        try:
            run = await start_deployment(
                prefect_api_url(self._settings),
                "reconcile_calls",
                parameters,
                ui_url=self._settings.prefect_ui_url,
                headers=prefect_headers(self._settings),
            )
        except ProviderUnavailable as error:
            return _refusal(503, str(error))
        log.info("reconciliation.triggered flow_run=%s", run.id)
        return _json({"flow_run_id": run.id, "url": run.url}, 202)

    async def list_runs(self, _request: Request) -> Response:
        """The latest runs with their figures."""
        return _json(
            {
                "runs": await self._ask(
                    f"{RUN} ORDER BY started_at DESC LIMIT :limit",
                    limit=MAX_RUNS,
                )
            }
        )

    async def show_run(self, request: Request) -> Response:
        """One run with its findings."""
        run_id = _uuid(request.path_params["id"])
        found = await self._ask(f"{RUN} WHERE id = :id", id=run_id)
        if not found:
            return _refusal(404, "there is no such run")
        findings = await self._ask(
            "SELECT kind, call_id, organization_id, amount_micros, outcome, detail FROM findings"
            " WHERE run_id = :id ORDER BY id",
            id=run_id,
        )
        return _json({**found[0], "findings": findings})

    async def _ask(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            with transaction(self._engine) as connection:
                return rows(connection, query, **parameters)

        return await run_in_threadpool(ask)

    def _guarded(self, handler: Handler) -> Handler:
        """401 without the token, which must be set and not empty; 503 while the database is away."""
        token = self._settings.operator_token

        @wraps(handler)
        async def guarded(request: Request) -> Response:
            scheme, _, sent = request.headers.get("authorization", "").partition(" ")
            known = token is not None and hmac.compare_digest(sent.encode(), token.get_secret_value().encode())
            if scheme.lower() != "bearer" or not known:
                return _refusal(401, "send Authorization: Bearer and the OPERATOR_TOKEN")
            try:
                return await handler(request)
            except BillingError as error:
                log.warning("operators.failed error=%s", type(error).__name__)
                return _refusal(503, "the database is away, try again later")

        return guarded


async def _body(request: Request) -> bytes | None:
    """What was sent, or None if it is more than a window takes."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return body


def _wrong_window(wish: Trigger, now: datetime) -> str | None:
    """Why no night can have this window, as far as can be told here."""
    begins, ends = wish.start or EARLIEST, wish.end or now
    checks = {
        f"the window lies before {EARLIEST:%Y}: no provider keeps calls for so long": min(begins, ends) < EARLIEST,
        "the window has not begun yet: from is in the future": begins > now,
        "the window ends more than a day from now: leave out to, then it ends now": ends > now + ONE_DAY,
        "the window is empty: from is not before to": begins >= ends,
    }
    return next((wrong for wrong, holds in checks.items() if holds), None)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _refusal(status: int, error: str) -> Response:
    return _json({"error": error}, status)
