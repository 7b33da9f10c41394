"""Twilio's REST API: the Message resource."""

from __future__ import annotations

import base64

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.faults import FaultyEdge
from calltally.sandbox.twilio import API_VERSION, TwilioWorld
from calltally.sandbox.wire import encode_json


def twilio_app(world: TwilioWorld) -> Starlette:
    """Return the API of this account."""

    def is_authorized(request: Request) -> bool:
        expected = base64.b64encode(f"{world.account_sid}:{world.auth_token}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {expected}"

    async def get_message(request: Request) -> Response:
        if not is_authorized(request):
            return _error(401, 20003, "Authenticate")
        message = world.resource(request.path_params["sid"])
        if message is None or request.path_params["account_sid"] != message["account_sid"]:
            return _error(404, 20404, f"The requested resource {request.url.path} was not found")
        return Response(encode_json(message), media_type="application/json")

    return Starlette(
        routes=[Route(f"/{API_VERSION}/Accounts/{{account_sid}}/Messages/{{sid}}.json", get_message)],
        middleware=[Middleware(FaultyEdge, faults=world.faults)],
    )


def _error(status: int, code: int, message: str) -> Response:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more_info, "status": status}
    return Response(encode_json(body), status, media_type="application/json")
