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
    "twilio": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Twilio-Signature",
        "description": "Over PUBLIC_URL, path, query string and all parameters of the form.",
    },
}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _json(description: str, schema: Schema, **more: Any) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


def _refusal(description: str, error: str, **more: Any) -> Schema:
    return _json(description, _object({"error": {"const": error}}), **more)


def _webhook(
    provider: str, key_of_a_delivery: str, media_type: str = "application/json", form: str = "JSON"
) -> Schema:
    retry_after = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
    return {
        "post": {
            "operationId": f"receive_{provider}_webhook",
            "summary": f"Take in one webhook; it counts once per {key_of_a_delivery}",
            "security": [{provider: []}],
            "requestBody": {"required": True, "content": {media_type: {"schema": {}}}},
            "responses": {
                "200": _json("Stored, now or before.", _object({"received": {"const": True}})),
                "400": _refusal(f"Signed, but not {form}.", f"not {form}"),
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
                {
                    "database": word,
                    "prefect": word,
                    "worker": {"enum": ["up", "paused", "down"]},
                    "webhookQueue": {"enum": ["up", "late", "down"]},
                }
            ),
            "timestamp": {"type": "string", "format": "date-time"},
            "uptime": {"type": "number", "minimum": 0, "description": "Seconds."},
            "queueMetrics": _object({name: {"type": ["integer", "null"], "minimum": 0} for name in METRICS}),
            "details": {"type": "object", "description": "What is wrong with a service, in words, by its name."},
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


def _queue_stats() -> Schema:
    count = {"type": ["integer", "null"], "minimum": 0}
    six = dict.fromkeys(METRICS, count)
    states = ("waiting", "active", "delayed", "parked", "dead", "finished")
    text, seconds = {"type": "string"}, {"type": "number", "description": "Age of the oldest."}
    unfinished = _object(
        {"provider": text, "type": text, "state": text, "events": {"type": "integer"}, "oldest_seconds": seconds}
    )
    return _object(
        {
            "totals": {"anyOf": [_object(dict.fromkeys(states, count)), {"type": "null"}]},
            "queue": {"anyOf": [{"type": "array", "items": unfinished}, {"type": "null"}]},
            "queueMetrics": _object(six),
            "byProvider": {"type": "array", "items": _object({"provider": text, **six})},
            "byType": {"type": "array", "items": _object({"provider": text, "type": text, **six})},
        }
    )


def _metrics() -> Schema:
    return {
        "get": {
            "operationId": "get_metrics",
            "summary": "Figures for Prometheus",
            "description": "With METRICS_TOKEN; if that is not set, only on loopback and not through a proxy.",
            "security": [{}, {"prometheus": []}],
            "responses": {
                "200": {
                    "description": "Prometheus' text format.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "401": _json("No token, or another one.", _object({"error": {"type": "string"}})),
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


def _operators(verb: str, operation: str, summary: str, answers: Schema, **more: Any) -> Schema:
    error = _object({"error": {"type": "string"}})
    return {
        verb: {
            "operationId": operation,
            "summary": summary,
            "security": [{"operator": []}],
            "responses": {
                **answers,
                "401": _json("No token, or another one.", error),
                "503": _json("The database or Prefect is away.", error),
            },
            **more,
        }
    }


def _trigger() -> Schema:
    time = {"type": "string", "format": "date-time"}
    wish = {
        "type": "object",
        "properties": {"from": time, "to": time, "dry_run": {"type": "boolean"}},
        "additionalProperties": False,
    }
    started = _object({"flow_run_id": {"type": "string", "format": "uuid"}, "url": {"type": "string"}})
    return _operators(
        "post",
        "trigger_reconciliation",
        "Start the nightly deployment now; all of the body may be left out",
        {
            "202": _json("Prefect starts it.", started),
            "400": _json("Not such a body, or a window that cannot be.", _object({"error": {"type": "string"}})),
            "413": _json("The body is too large.", _object({"error": {"type": "string"}})),
        },
        requestBody={"content": {"application/json": {"schema": wish}}},
    )


def _operators_paths() -> Schema:
    anything = {"type": "object"}
    run_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    return {
        "/api/monitoring/queue-stats": _operators(
            "get",
            "get_queue_stats",
            "Events by provider and type, in the names of /health",
            {"200": _json("Counts; null for what took longer than 2 s to count.", _queue_stats())},
        ),
        "/api/billing-reconciliation/trigger": _trigger(),
        "/api/billing-reconciliation/runs": _operators(
            "get", "list_runs", "The latest nights with their figures", {"200": _json("Newest first.", anything)}
        ),
        "/api/billing-reconciliation/runs/{id}": _operators(
            "get",
            "get_run",
            "One night with its findings",
            {"200": _json("The run.", anything), "404": {"description": "No such run."}},
            parameters=[run_id],
        ),
    }


OPENAPI: Schema = {
    "openapi": "3.1.0",
    "info": {
        "title": "calltally receiver",
        "version": "1",
        "description": "Webhooks in, health out, and the nights.",
    },
    "paths": {
        "/webhooks/stripe": _webhook("stripe", "event id"),
        "/webhooks/vapi": _webhook("vapi", "call, message type and, of a status update, status"),
        "/webhooks/twilio": _webhook(
            "twilio", "message, status and error code", "application/x-www-form-urlencoded", "a form"
        ),
        "/health": _health(),
        "/metrics": _metrics(),
        "/openapi.json": _openapi(),
        **_operators_paths(),
    },
    "components": {
        "securitySchemes": {
            **_SIGNATURES,
            "operator": {"type": "http", "scheme": "bearer"},
            "prometheus": {"type": "http", "scheme": "bearer"},
        }
    },
}
