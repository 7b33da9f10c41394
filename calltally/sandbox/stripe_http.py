"""Stripe's REST API, as far as missed events are recovered with it (`GET /v1/events`) and objects are looked at."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.faults import FaultyEdge
from calltally.sandbox.stripe import Event, StripeWorld
from calltally.sandbox.stripe_endpoints import endpoint_routes
from calltally.sandbox.stripe_lookup import Refused, object_routes
from calltally.sandbox.stripe_objects import API_VERSION
from calltally.sandbox.wire import JsonObject, encode_json

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
MAX_TYPES = 20

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "created": int.__eq__,
    "created[gt]": int.__gt__,
    "created[gte]": int.__ge__,
    "created[lt]": int.__lt__,
    "created[lte]": int.__le__,
}
_PLAIN_PARAMS = {"limit", "type", "starting_after", "ending_before", "delivery_success"}
_TYPES_PARAM = re.compile(r"types\[\d*\]")


def stripe_app(world: StripeWorld) -> Starlette:
    """Return the API of this world."""

    async def list_events(request: Request) -> Response:
        _authorize(request, world)
        return _json(_page(world, request.query_params))

    async def get_event(request: Request) -> Response:
        _authorize(request, world)
        event_id = request.path_params["event_id"]
        return _json(world.shown(_find(world.events(), event_id, "id", status=404)))

    return Starlette(
        routes=[
            Route("/v1/events", list_events),
            Route("/v1/events/{event_id}", get_event),
            *endpoint_routes(world, lambda request: _authorize(request, world)),
            *object_routes(world, lambda request: _authorize(request, world)),
        ],
        middleware=[Middleware(FaultyEdge, faults=world.faults)],
        exception_handlers={Refused: _refusal},
    )


def _page(world: StripeWorld, params: QueryParams) -> JsonObject:
    """Return one page; cursors count within what the filters leave."""
    limit = _limit(params)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after is not None and before is not None:
        raise Refused(400, "Only one of starting_after and ending_before may be given.", param="ending_before")
    everything = world.events()
    events = _filtered(world, everything, params)
    if after is not None:
        position = everything.index(_find(everything, after, "starting_after"))
        events = _kept(events, everything[position + 1 :])
    if before is not None:
        position = everything.index(_find(everything, before, "ending_before"))
        events = _kept(events, everything[:position])
    page = events[:limit] if before is None else events[-limit:]
    return {
        "object": "list",
        "data": [world.shown(event) for event in page],
        "has_more": len(events) > limit,
        "url": "/v1/events",
    }


def _kept(events: list[Event], allowed: list[Event]) -> list[Event]:
    ids = {event.id for event in allowed}
    return [event for event in events if event.id in ids]


def _filtered(world: StripeWorld, events: list[Event], params: QueryParams) -> list[Event]:
    types = _types(params)
    for name, text in params.multi_items():
        if name in _COMPARISONS:
            bound, compare = _integer(name, text), _COMPARISONS[name]
            events = [event for event in events if compare(event.created, bound)]
        elif name == "delivery_success":
            wanted = _boolean(name, text)
            events = [event for event in events if world.is_delivered(event) == wanted]
        elif name not in _PLAIN_PARAMS and not _TYPES_PARAM.fullmatch(name):
            raise Refused(400, f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
    return [event for event in events if types is None or types(event.type)]


def _types(params: QueryParams) -> Callable[[str], bool] | None:
    names = {text for name, text in params.multi_items() if _TYPES_PARAM.fullmatch(name)}
    single = params.get("type")
    if names and single is not None:
        raise Refused(400, "You may pass either type or types, not both.", param="types")
    if len(names) > MAX_TYPES:
        raise Refused(400, f"types may hold at most {MAX_TYPES} names.", param="types")
    if names:
        return names.__contains__
    if single is None:
        return None
    pattern = re.compile(re.escape(single).replace(r"\*", ".*"))
    return lambda event_type: pattern.fullmatch(event_type) is not None


def _limit(params: QueryParams) -> int:
    limit = _integer("limit", params.get("limit", str(DEFAULT_LIMIT)))
    if not 1 <= limit <= MAX_LIMIT:
        raise Refused(400, f"limit must be between 1 and {MAX_LIMIT}.", param="limit")
    return limit


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise Refused(400, f"Invalid integer: {text}", param=name, code="parameter_invalid_integer")
    return int(text)


def _boolean(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise Refused(400, f"Invalid boolean: {text}", param=name)
    return text == "true"


def _find(events: list[Event], event_id: str, param: str, status: int = 400) -> Event:
    for event in events:
        if event.id == event_id:
            return event
    raise Refused(status, f"No such event: '{event_id}'", param=param, code="resource_missing")


def _authorize(request: Request, world: StripeWorld) -> None:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    key = credentials
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            key = ""
    if not key:
        raise Refused(401, "You did not provide an API key.")
    if key != world.api_key:
        raise Refused(401, f"Invalid API Key provided: {key[:8]}****")


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101  # the handler is registered for this class
    return _json(error.body, error.status)


def _json(body: JsonObject, status: int = 200) -> Response:
    headers = {"Request-Id": "req_sandbox", "Stripe-Version": API_VERSION}
    return Response(encode_json(body), status, headers, media_type="application/json")
