"""How Vapi shows a call: in the list, and inside a webhook.

In the REST answers an absent value is an absent key; webhooks also write `null`.
"""

from __future__ import annotations

from calltally.sandbox.calls import Call, Detail, Route
from calltally.sandbox.conversation import SUMMARY, artifact_of, system_prompt
from calltally.sandbox.costs import costs_of
from calltally.sandbox.wire import JsonObject, iso

ORG_ID = "5b1f6f0e-7c1d-4c55-9a3e-0d2f4a6b8c10"

# A call that fails before a transport exists shows neither transport nor monitor.
START_ERROR_REASON = "call.start.error-get-transport"
START_ERROR_MESSAGE = "Vapi Numbers Can't Dial Outbound Yet."

_CONTROL_HOST = "phone-call-websocket.sandbox.vapi.example"
_CREATED_WITH_ACCOUNT = "2026-09-01T08:00:00.000Z"


def render_call(call: Call) -> JsonObject:
    """Return the call as `GET /call` and `GET /call/{id}` show it now."""
    shown: JsonObject = {"id": call.id, "orgId": ORG_ID}
    shown |= _route_ids(call.route)
    shown |= {"type": call.route.call_type, "status": call.status}
    if call.ended_reason is not None:
        shown["endedReason"] = call.ended_reason
    if call.ended_reason == START_ERROR_REASON:
        shown["endedMessage"] = START_ERROR_MESSAGE
    shown |= {"createdAt": iso(call.created_at_ms), "updatedAt": iso(call.updated_at_ms)}
    if call.started_at_ms is not None:
        shown["startedAt"] = iso(call.started_at_ms)
    if call.ended_at_ms is not None:
        shown["endedAt"] = iso(call.ended_at_ms)
    costs = costs_of(call)
    if costs is None:
        shown["cost"] = 0
    else:
        shown |= {"cost": costs.total, "costBreakdown": costs.breakdown, "costs": costs.items}
    shown |= _parties(call)
    if call.ended_reason != START_ERROR_REASON:
        shown["monitor"] = _monitor(call.id)
    if call.detail == "slim":
        return shown
    if call.route.is_inline:
        shown["assistant"] = assistant_of(call.route, call.detail)
    return shown | conversation_fields(call)


def render_call_as_created(call: Call) -> JsonObject:
    """Return the call as every webhook repeats it: the moment of creation, never updated."""
    shown: JsonObject = {
        "id": call.id,
        "orgId": ORG_ID,
        "createdAt": iso(call.created_at_ms),
        "updatedAt": iso(call.created_at_ms),
        "type": call.route.call_type,
        "status": "ringing" if call.route.call_type == "inboundPhoneCall" else "queued",
        "monitor": _monitor(call.id),
        "assistantId": call.route.assistant_id,
        "squadId": call.route.squad_id,
    }
    if call.route.phone_number_id is not None:
        shown["phoneNumberId"] = call.route.phone_number_id
    return shown | _parties(call)


def conversation_fields(call: Call) -> JsonObject:
    """Return analysis and artifact with their top-level copies, or nothing before the call is over."""
    if call.started_at_ms is None or call.duration_ms is None:
        return {}
    artifact = artifact_of(call, call.started_at_ms, call.duration_ms)
    fields: JsonObject = {
        "analysis": {"summary": SUMMARY, "successEvaluation": "true"},
        "artifact": artifact,
        "messages": artifact["messages"],
        "transcript": artifact["transcript"],
        "summary": SUMMARY,
    }
    if call.route.call_type != "webCall":
        fields |= {key: artifact[key] for key in ("recordingUrl", "stereoRecordingUrl")}
    return fields


def assistant_of(route: Route, detail: Detail) -> JsonObject:
    """Return the assistant in full; a saved one has an id, an inline one has not."""
    assistant: JsonObject = {
        "name": "Sandbox receptionist",
        "firstMessage": "Thanks for calling the Sandbox Clinic, how can I help?",
        "model": {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "messages": [{"role": "system", "content": system_prompt(detail)}],
        },
        "voice": {"provider": "11labs", "voiceId": "sandboxVoiceId00000"},
        "transcriber": {"provider": "deepgram", "model": "nova-2"},
        "serverMessages": ["status-update", "end-of-call-report"],
    }
    if route.assistant_id is None:
        return assistant
    saved = {"id": route.assistant_id, "orgId": ORG_ID}
    times = {"createdAt": _CREATED_WITH_ACCOUNT, "updatedAt": _CREATED_WITH_ACCOUNT}
    return saved | assistant | times | _metadata(route)


def phone_number_of(route: Route) -> JsonObject:
    """Return the phone number that the call used, as webhooks carry it."""
    return {
        "id": route.phone_number_id,
        "orgId": ORG_ID,
        "provider": "vapi" if route.transport == "vapi.sip" else "twilio",
        "number": "+15555550100",
        "name": "Sandbox main line",
        "assistantId": route.assistant_id,
        "createdAt": _CREATED_WITH_ACCOUNT,
        "updatedAt": _CREATED_WITH_ACCOUNT,
    }


def _route_ids(route: Route) -> JsonObject:
    ids = {
        "assistantId": route.assistant_id,
        "squadId": route.squad_id,
        "phoneNumberId": route.phone_number_id,
    }
    return {key: value for key, value in ids.items() if value is not None}


def _parties(call: Call) -> JsonObject:
    parties: JsonObject = {}
    if call.route.call_type != "webCall":
        parties["customer"] = {"number": call.customer_number}
    if call.ended_reason != START_ERROR_REASON:
        parties |= _transport(call)
    if call.route.tenant_id is not None:
        metadata = _metadata(call.route)
        parties["assistantOverrides"] = metadata | {"variableValues": metadata["metadata"]}
    return parties


def _transport(call: Call) -> JsonObject:
    if call.route.call_type == "webCall":
        url = "https://vapi.daily.co/sandbox-room"
        return {
            "webCallUrl": url,
            "transport": {"provider": "daily", "conversationType": "voice", "callUrl": url},
        }
    if call.route.transport == "vapi.sip":
        return {
            "phoneCallProvider": "vapi",
            "phoneCallProviderId": call.id,
            "phoneCallTransport": "pstn",
            "phoneCallProviderDetails": {"sbcCallId": call.id},
            "transport": {
                "provider": "vapi.sip",
                "conversationType": "voice",
                "callSid": call.id,
                "sbcCallSid": call.id,
            },
        }
    call_sid = "CA" + call.id.replace("-", "")
    return {
        "phoneCallProvider": "twilio",
        "phoneCallProviderId": call_sid,
        "phoneCallTransport": "pstn",
        "transport": {
            "provider": "twilio",
            "conversationType": "voice",
            "accountSid": "AC" + "0" * 32,
            "callSid": call_sid,
        },
    }


def _metadata(route: Route) -> JsonObject:
    return {"metadata": {"tenant_id": route.tenant_id}} if route.tenant_id is not None else {}


def _monitor(call_id: str) -> JsonObject:
    return {
        "listenUrl": f"wss://{_CONTROL_HOST}/{call_id}/listen",
        "controlUrl": f"https://{_CONTROL_HOST}/{call_id}/control",
    }
