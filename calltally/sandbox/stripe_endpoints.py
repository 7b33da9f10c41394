"""What people set up at Stripe: webhook endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


def endpoint_routes(endpoints: list[JsonObject], authorize: Callable[[Request], None]) -> list[Route]:
    """`GET /v1/webhook_endpoints`, all on one page."""

    async def answer(request: Request) -> Response:
        authorize(request)
        page = {"object": "list", "data": endpoints, "has_more": False, "url": "/v1/webhook_endpoints"}
        return Response(encode_json(page), media_type="application/json")

    return [Route("/v1/webhook_endpoints", answer)]
