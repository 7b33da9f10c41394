"""What the receiver offers, as OpenAPI 3.1; served at `/openapi.json`. A test compares it with the routes."""

from typing import Any

from receiver.health import METRICS

Schema = dict[str, Any]

_SIGNATURES: Schema = {
    "stripe": {"type": "apiKey", "in": "header", "name": "Stripe-Signature", "description": "`t=<unix>,v1=<hex>`"},
    "vapi": {
        "type": "http",
        "scheme": "bearer",
        "description": "Or `X-Vapi-Secret`, or an HMAC, as VAPI_WEBHOOK_AUTH says.",
    },
}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _json(description: str, schema: Schema, **more: Any) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


def _refusal(description: str, error: str, **more: Any) -> Schema:
    return _json(description, _object({"error": {"const": error}}), **more)


def _webhook(provider: str, key_of_a_delivery: str) -> Schema:
    retry_after = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
    return {
        "post": {
            "operationId": f"receive_{provider}_webhook",
            "summary": f"Take in one webhook; it counts once per {key_of_a_delivery}",
            "security": [{provider: []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
            "responses": {
                "200": _json("Stored, now or before.", _object({"received": {"const": True}})),
                "400": _refusal("Signed, but not JSON.", "not JSON"),
                "401": _refusal("It does not prove that it comes from the provider.", "signature refused"),
                "408": _refusal("The body did not arrive in time.", "too slow"),
                "413": _refusal("The body is too large.", "too large"),
                "503": _refusal("It cannot be stored now.", "try again later", headers=retry_after),
            },
        }
    }


def _health() -> Schema:
    word = {"enum": ["up", "down"]}
    report = _object(
        {
            "status": {"enum": ["healthy", "unhealthy"]},
            "services": _object(
                {"database": word, "prefect": word, "worker": word, "webhookQueue": {"enum": ["up", "late", "down"]}}
            ),
            "timestamp": {"type": "string", "format": "date-time"},
            "uptime": {"type": "number", "minimum": 0, "description": "Seconds."},
            "queueMetrics": _object({name: {"type": ["integer", "null"], "minimum": 0} for name in METRICS}),
        }
    )
    return {
        "get": {
            "operationId": "get_health",
            "summary": "Is everything there that billing needs?",
            "responses": {
                "200": _json("All is well.", report),
                "503": _json("Something needed is down, or webhooks have waited too long.", report),
            },
        }
    }


def _openapi() -> Schema:
    return {
        "get": {
            "operationId": "get_openapi",
            "summary": "This description",
            "responses": {"200": _json("OpenAPI 3.1.", {"type": "object"})},
        }
    }


OPENAPI: Schema = {
    "openapi": "3.1.0",
    "info": {"title": "calltally receiver", "version": "1", "description": "Webhooks in, health out."},
    "paths": {
        "/webhooks/stripe": _webhook("stripe", "event id"),
        "/webhooks/vapi": _webhook("vapi", "call, message type and, of a status update, status"),
        "/health": _health(),
        "/openapi.json": _openapi(),
    },
    "components": {"securitySchemes": _SIGNATURES},
}
