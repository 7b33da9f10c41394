"""Twilio's REST API: the account, the Message resource and its list."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import date

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.faults import FaultyEdge
from calltally.sandbox.twilio import API_VERSION, TwilioWorld
from calltally.sandbox.wire import JsonObject, encode_json


def twilio_app(world: TwilioWorld) -> Starlette:
    """Return the API of this account and its subaccounts."""
    account = f"/{API_VERSION}/Accounts/{{account_sid}}"
    answers = {
        f"/{API_VERSION}/Accounts.json": _accounts,
        f"{account}.json": _account,
        f"{account}/Messages.json": _page,
        f"{account}/Messages/{{sid}}.json": _message,
        "/v1/Services": _services,  # of messaging.twilio.com
    }

    def endpoint(answer: Callable[[TwilioWorld, Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            asked = _open(world, request)
            return asked if isinstance(asked, Response) else answer(asked, request)

        return respond

    return Starlette(
        routes=[Route(path, endpoint(answer)) for path, answer in answers.items()],
        middleware=[Middleware(FaultyEdge, faults=world.faults)],
    )


def _open(world: TwilioWorld, request: Request) -> TwilioWorld | Response:
    """The account that is asked about: its own token opens it, and its main account's
    (https://www.twilio.com/docs/iam/api/subaccounts).
    """
    sent = request.headers.get("authorization")
    for caller in (world, *world.subaccounts):
        if sent == f"Basic {base64.b64encode(f'{caller.account_sid}:{caller.auth_token}'.encode()).decode()}":
            asked = request.path_params.get("account_sid", caller.account_sid)
            within = {one.account_sid: one for one in (caller, *caller.subaccounts)}
            return within.get(asked) or _not_found(request)
    return _error(401, 20003, "Authenticate")


def _account(world: TwilioWorld, _request: Request) -> Response:
    return _json(_shown(world))


def _accounts(world: TwilioWorld, _request: Request) -> Response:
    """The account and its subaccounts, all on one page."""
    return _json({"accounts": [_shown(one) for one in (world, *world.subaccounts)], "next_page_uri": None})


def _services(world: TwilioWorld, _request: Request) -> Response:
    """Messaging Services with the addresses that are told of their messages, all on one page."""
    services = [
        {"sid": sid, "account_sid": world.account_sid, "status_callback": address}
        for sid, address in world.messaging_services.items()
    ]
    return _json({"services": services, "meta": {"key": "services", "next_page_url": None}})


def _shown(world: TwilioWorld) -> JsonObject:
    return {"sid": world.account_sid, "status": "active", "type": "Full"}


def _message(world: TwilioWorld, request: Request) -> Response:
    message = world.resource(request.path_params["sid"])
    return _not_found(request) if message is None else _json(message)


def _page(world: TwilioWorld, request: Request) -> Response:
    """The messages that were sent on a day, newest first."""
    try:
        day = date.fromisoformat(request.query_params["DateSent"])
        size = min(int(request.query_params.get("PageSize", "50")), 1000)
        page = int(request.query_params.get("Page", "0"))
    except (KeyError, ValueError):
        return _error(400, 20001, "DateSent, PageSize or Page is not as it must be")
    sids = world.sent_on(day)
    is_last = len(sids) <= (page + 1) * size
    path = f"/{API_VERSION}/Accounts/{world.account_sid}/Messages.json"
    following = f"{path}?DateSent={day}&PageSize={size}&Page={page + 1}"
    shown = [world.resource(sid) for sid in sids[page * size : (page + 1) * size]]
    return _json(
        {"messages": shown, "page": page, "page_size": size, "next_page_uri": None if is_last else following}
    )


def _json(content: JsonObject, status: int = 200) -> Response:
    return Response(encode_json(content), status, media_type="application/json")


def _not_found(request: Request) -> Response:
    return _error(404, 20404, f"The requested resource {request.url.path} was not found")


def _error(status: int, code: int, message: str) -> Response:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    return _json({"code": code, "message": message, "more_info": more_info, "status": status}, status)
