"""The messages Vapi sends about a call.

Times and money stand beside `message.call`; the call itself is repeated as it was created. Vapi sets no
delivery id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from calltally.sandbox.call_json import (
    assistant_of,
    conversation_fields,
    phone_number_of,
    render_call_as_created,
)
from calltally.sandbox.calls import Call
from calltally.sandbox.conversation import openai_formatted, opening_message
from calltally.sandbox.costs import billed_minutes, costs_of
from calltally.sandbox.messages import END_OF_CALL_REPORT, STATUS_UPDATE, Message
from calltally.sandbox.wire import JsonObject, encode_json, iso

_STARTED_NOTICE_MS = 120
_ENDED_NOTICE_MS = 310
# A recorded report came 5.0 s after the end, once post-processing was complete.
_REPORT_NOTICE_MS = 4_984


def messages_about(calls: Iterable[Call], *, report_never_connected: bool = False) -> list[Message]:
    """Return all messages about these calls in the order of their times.

    A call that never connected has no report unless asked for: third parties say that Vapi sends none.
    """
    messages: list[Message] = []
    for call in calls:
        if call.started_at_ms is not None:
            messages.append(status_update(call, "in-progress"))
        if call.status == "ended":
            messages.append(status_update(call, "ended"))
            if call.started_at_ms is not None or report_never_connected:
                messages.append(end_of_call_report(call))
    return sorted(messages, key=lambda message: message.at_ms)


def end_of_call_report(call: Call) -> Message:
    """Return the message with times and costs that follows every connected call."""
    if call.status != "ended":
        raise ValueError(f"call {call.id} has not ended")
    at_ms = _over_at_ms(call) + _REPORT_NOTICE_MS
    body: JsonObject = {"timestamp": at_ms, "type": END_OF_CALL_REPORT}
    body |= {"analysis": {}, "artifact": {}} | conversation_fields(call)
    body["endedReason"] = call.ended_reason
    if call.started_at_ms is not None and call.ended_at_ms is not None and call.duration_ms is not None:
        body |= {
            "startedAt": iso(call.started_at_ms),
            "endedAt": iso(call.ended_at_ms),
            "durationMs": call.duration_ms,
            "durationSeconds": call.duration_ms / 1000,
            "durationMinutes": billed_minutes(call.duration_ms),
        }
    costs = costs_of(call)
    if costs is None:
        body["cost"] = 0
    else:
        body |= {"cost": costs.total, "costBreakdown": costs.breakdown, "costs": costs.items}
    return _message(call, at_ms, body)


def status_update(call: Call, status: Literal["in-progress", "ended"]) -> Message:
    """Return a message without times and costs; only `ended` has a reason."""
    body: JsonObject = {"type": STATUS_UPDATE, "status": status}
    if status == "ended":
        at_ms = _over_at_ms(call) + _ENDED_NOTICE_MS
        body["endedReason"] = call.ended_reason
    else:
        at_ms = (call.started_at_ms or call.created_at_ms) + _STARTED_NOTICE_MS
    spoken = conversation_fields(call).get("messages", []) if status == "ended" else []
    if not spoken and call.started_at_ms is not None:
        spoken = [opening_message(call.detail, call.started_at_ms)]
    body |= {
        "timestamp": at_ms,
        "artifact": {"messages": spoken, "messagesOpenAIFormatted": openai_formatted(spoken)},
    }
    return _message(call, at_ms, body)


def _over_at_ms(call: Call) -> int:
    return call.updated_at_ms if call.ended_at_ms is None else call.ended_at_ms


def _message(call: Call, at_ms: int, body: JsonObject) -> Message:
    body["call"] = render_call_as_created(call)
    if call.route.phone_number_id is not None:
        body["phoneNumber"] = phone_number_of(call.route)
    if call.route.call_type != "webCall":
        body["customer"] = {"number": call.customer_number}
    body["assistant"] = assistant_of(call.route, call.detail)
    return Message(call.id, body["type"], at_ms, encode_json({"message": body}))
