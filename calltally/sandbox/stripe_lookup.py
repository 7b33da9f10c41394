"""Stripe's objects by their ids, the Checkout Session of a payment, and the invoice that it paid."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.stripe import StripeWorld
from calltally.sandbox.stripe_objects import API_VERSION, RESOURCES
from calltally.sandbox.wire import JsonObject, encode_json

_INVALID_REQUEST = "invalid_request_error"


class Refused(Exception):  # named after what the client sees
    """The request ends with Stripe's error shape."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        error = {"type": _INVALID_REQUEST, "message": message, "param": param, "code": code}
        self.body = {"error": {key: value for key, value in error.items() if value is not None}}


Look = Callable[[Request], None]
"""Refuses a request without our key, and notes what was asked."""


def object_routes(world: StripeWorld, authorize: Callable[[Request], None]) -> list[Route]:
    """`GET /v1/<objects>/{id}`, `/v1/{checkout/sessions,refunds}?payment_intent=` and `/v1/invoice_payments`."""

    def look(request: Request) -> None:
        authorize(request)
        path = request.url.path[request.url.path.index("/v1/") :]
        world.asked.append(unquote(f"{path}?{request.url.query}").rstrip("?"))

    async def invoice_payments(request: Request) -> Response:
        look(request)
        return _json(_list(_paid_invoices(world, request.query_params), "/v1/invoice_payments"))

    listed = [Route(f"/v1/{RESOURCES[kind]}", _listed(world, look, kind)) for kind in LISTED]
    single = [Route(f"/v1/{folder}/{{id}}", _by_id(world, look, kind)) for kind, folder in RESOURCES.items()]
    return [*listed, Route("/v1/invoice_payments", invoice_payments), *single]


LISTED = ("checkout.session", "invoice", "payment_intent", "refund")


def _listed(world: StripeWorld, look: Look, kind: str) -> Callable[[Request], object]:
    """Ten of them, or those of a payment."""

    async def answer(request: Request) -> Response:
        look(request)
        payment = request.query_params.get("payment_intent")
        found = [shown for shown in world.objects(kind) if payment in {None, shown.get("payment_intent")}]
        return _json(_list(found[:10], f"/v1/{RESOURCES[kind]}"))

    return answer


def _by_id(world: StripeWorld, look: Look, kind: str) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        look(request)
        wanted = request.path_params["id"]
        for shown in world.objects(kind):
            if shown["id"] == wanted:
                return _json(shown)
        raise Refused(404, f"No such {kind}: '{wanted}'", param="id", code="resource_missing")

    return answer


def _paid_invoices(world: StripeWorld, params: QueryParams) -> list[JsonObject]:
    """What a payment paid; with `expand[]=data.invoice` the invoices are whole."""
    if params.get("payment[type]") != "payment_intent":
        raise Refused(400, "Missing required param: payment[type].", param="payment[type]")
    wanted = params.get("payment[payment_intent]")
    found = [shown for shown in world.objects("invoice_payment") if shown["payment"]["payment_intent"] == wanted]
    if "data.invoice" not in {text for name, text in params.multi_items() if name.startswith("expand[")}:
        return found
    invoices = {shown["id"]: shown for shown in world.objects("invoice")}
    return [{**shown, "invoice": invoices[shown["invoice"]]} for shown in found]


def _list(data: list[JsonObject], url: str) -> JsonObject:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def _json(body: JsonObject) -> Response:
    headers = {"Request-Id": "req_sandbox", "Stripe-Version": API_VERSION}
    return Response(encode_json(body), headers=headers, media_type="application/json")
