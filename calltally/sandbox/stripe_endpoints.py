"""What people set up at Stripe: webhook endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.stripe import StripeWorld
from calltally.sandbox.stripe_objects import API_VERSION
from calltally.sandbox.wire import JsonObject, encode_json


def webhook_endpoint(endpoint_id: str, url: str, enabled_events: Sequence[str], **fields: Any) -> JsonObject:
    """An enabled endpoint in test mode; `fields` are Stripe's. Its secret was only shown when it was made."""
    return {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": 1_788_220_800,
        "description": None,
        "enabled_events": list(enabled_events),
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
        **fields,
    }


def event_destination(destination_id: str, url: str, enabled_events: Sequence[str], **fields: Any) -> JsonObject:
    """The same among the destinations of API v2, where thin ones are as well; `fields` are Stripe's."""
    return {
        "id": destination_id,
        "object": "v2.core.event_destination",
        "created": "2026-09-01T00:00:00.000Z",
        "enabled_events": list(enabled_events),
        "event_payload": "thin",
        "events_from": ["@self"],
        "livemode": False,
        "name": "wallets",
        "snapshot_api_version": None,
        "status": "enabled",
        "status_details": None,
        "type": "webhook_endpoint",
        "webhook_endpoint": {"signing_secret": None, "url": url},
        **fields,
    }


def endpoint_routes(world: StripeWorld, authorize: Callable[[Request], None]) -> list[Route]:
    """`GET /v1/webhook_endpoints` and `GET /v2/core/event_destinations`, all on one page."""

    async def endpoints(request: Request) -> Response:
        authorize(request)
        page = {
            "object": "list",
            "data": world.webhook_endpoints,
            "has_more": False,
            "url": "/v1/webhook_endpoints",
        }
        return Response(encode_json(page), media_type="application/json")

    async def destinations(request: Request) -> Response:
        authorize(request)
        page = {"data": world.event_destinations, "next_page_url": None, "previous_page_url": None}
        return Response(encode_json(page), media_type="application/json")

    return [Route("/v1/webhook_endpoints", endpoints), Route("/v2/core/event_destinations", destinations)]
