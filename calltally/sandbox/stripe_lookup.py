"""Stripe's objects by their ids, the Checkout Session of a payment, and the invoice that it paid."""

from __future__ import annotations

from collections.abc import Callable

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


def object_routes(world: StripeWorld, authorize: Callable[[Request], None]) -> list[Route]:
    """`GET /v1/<objects>/{id}`, `/v1/checkout/sessions?payment_intent=` and `/v1/invoice_payments`."""

    def noted(request: Request) -> None:
        authorize(request)
        world.asked.append(f"{request.url.path[request.url.path.index('/v1/') :]}?{request.url.query}".rstrip("?"))

    def by_id(kind: str) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            noted(request)
            wanted = request.path_params["id"]
            for shown in world.objects(kind):
                if shown["id"] == wanted:
                    return _json(shown)
            raise Refused(404, f"No such {kind}: '{wanted}'", param="id", code="resource_missing")

        return answer

    async def sessions(request: Request) -> Response:
        noted(request)
        payment = request.query_params.get("payment_intent")
        found = [shown for shown in world.objects("checkout.session") if payment in {None, shown["payment_intent"]}]
        return _json(_list(found, "/v1/checkout/sessions"))

    async def invoice_payments(request: Request) -> Response:
        noted(request)
        params = request.query_params
        if params.get("payment[type]") != "payment_intent":
            raise Refused(400, "Missing required param: payment[type].", param="payment[type]")
        wanted = params.get("payment[payment_intent]")
        found = [shown for shown in world.objects("invoice_payment") if shown["payment"]["payment_intent"] == wanted]
        if "data.invoice" in {text for name, text in params.multi_items() if name.startswith("expand[")}:
            invoices = {shown["id"]: shown for shown in world.objects("invoice")}
            found = [{**shown, "invoice": invoices[shown["invoice"]]} for shown in found]
        return _json(_list(found, "/v1/invoice_payments"))

    return [
        Route("/v1/checkout/sessions", sessions),
        Route("/v1/invoice_payments", invoice_payments),
        *(Route(f"/v1/{folder}/{{id}}", by_id(kind)) for kind, folder in RESOURCES.items()),
    ]


def _list(data: list[JsonObject], url: str) -> JsonObject:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def _json(body: JsonObject) -> Response:
    headers = {"Request-Id": "req_sandbox", "Stripe-Version": API_VERSION}
    return Response(encode_json(body), headers=headers, media_type="application/json")
