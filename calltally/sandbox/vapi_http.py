"""Vapi's REST API: `GET /call`, `GET /call/{id}` and `POST /analytics`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.analytics import answer_analytics
from calltally.sandbox.faults import FaultyEdge
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_query import BadQuery, parse_list_query
from calltally.sandbox.vapi_setup import setup_routes
from calltally.sandbox.wire import encode_json, to_ms

INVALID_KEY = "Invalid Key. Hot tip, you may be using the private key instead of the public key, or vice versa."

_REASONS = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
# A page of large calls shrinks twelvefold; the fastest level keeps the sandbox out of the measurement.
_COMPRESSION_LEVEL = 1


def vapi_app(world: VapiWorld, clock: Callable[[], datetime]) -> Starlette:
    """Return the API of this world; the clock only gives analytics its default range."""
    api = _VapiApi(world, clock)
    return Starlette(
        routes=[
            Route("/call", api.list_calls),
            Route("/call/{call_id}", api.get_call),
            Route("/analytics", api.analytics, methods=["POST"]),
            *setup_routes(world.setup, api.authorize),
        ],
        middleware=[
            Middleware(FaultyEdge, faults=world.faults),
            Middleware(GZipMiddleware, compresslevel=_COMPRESSION_LEVEL),
        ],
        exception_handlers={Refused: _refusal, BadQuery: _bad_query},
    )


class Refused(Exception):  # named after what the client sees
    """The request ends with Vapi's error shape."""

    def __init__(self, status: int, message: str | list[str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _VapiApi:
    def __init__(self, world: VapiWorld, clock: Callable[[], datetime]) -> None:
        self._world = world
        self._clock = clock

    async def list_calls(self, request: Request) -> Response:
        self.authorize(request)
        query = parse_list_query(request.query_params)
        return _json(await run_in_threadpool(self._world.page, query.wanted, query.limit))

    async def get_call(self, request: Request) -> Response:
        self.authorize(request)
        call_id = request.path_params["call_id"]
        if not _is_uuid(call_id):
            raise Refused(400, ["id must be a UUID"])
        body = self._world.body(call_id)
        if body is None:
            raise Refused(404, f"Call with id {call_id} was not found.")
        return _json(body)

    async def analytics(self, request: Request) -> Response:
        self.authorize(request)
        try:
            queries = json.loads(await request.body())
        except ValueError as error:
            raise Refused(400, ["the body must be JSON"]) from error
        now_ms = to_ms(self._clock())
        return _json(
            encode_json(await run_in_threadpool(answer_analytics, queries, self._world.calls, now_ms=now_ms))
        )

    def authorize(self, request: Request) -> None:
        """Refuse another key."""
        if request.headers.get("authorization") != f"Bearer {self._world.api_key}":
            raise Refused(401, INVALID_KEY)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101  # the handler is registered for this class
    body = {"message": error.message, "error": _REASONS[error.status], "statusCode": error.status}
    return _json(encode_json(body), error.status)


def _bad_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadQuery)  # noqa: S101  # the handler is registered for this class
    return _refusal(request, Refused(400, error.messages))
