"""Shapes of Vapi's messages, compared with the documented ones."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from calltally.sandbox.calls import Call, Route
from calltally.sandbox.messages import Message
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_webhooks import messages_about

from .conftest import ASSISTANT, placing

REPORT_KEYS = {
    "timestamp",
    "type",
    "analysis",
    "artifact",
    "startedAt",
    "endedAt",
    "endedReason",
    "cost",
    "costBreakdown",
    "costs",
    "durationMs",
    "durationSeconds",
    "durationMinutes",
    "summary",
    "transcript",
    "messages",
    "recordingUrl",
    "stereoRecordingUrl",
    "call",
    "phoneNumber",
    "customer",
    "assistant",
}
CREATED_CALL_KEYS = {
    "id",
    "orgId",
    "createdAt",
    "updatedAt",
    "type",
    "status",
    "monitor",
    "transport",
    "phoneCallProvider",
    "phoneCallProviderId",
    "phoneCallTransport",
    "assistantId",
    "squadId",
    "phoneNumberId",
    "customer",
    "assistantOverrides",
}
PHONE = Route(assistant_id=ASSISTANT.assistant_id, phone_number_id="line", tenant_id="tenant_42")


def connected(world: VapiWorld, route: Route = PHONE) -> Call:
    """Place one connected call."""
    return placing(world)(1, routes=(route,), never_connected_share=0.0)[0]


def content(message: Message) -> dict[str, Any]:
    """Return what stands under `message`."""
    body: dict[str, Any] = json.loads(message.body)
    assert {"message"} == set(body)
    return dict(body["message"])


def test_report_has_exactly_the_documented_keys() -> None:
    """The report of a phone call holds the keys of a recorded one."""
    *_, report = messages_about([connected(VapiWorld())])

    assert set(content(report)) == REPORT_KEYS
    assert set(content(report)["call"]) == CREATED_CALL_KEYS


def test_report_shows_the_call_as_created_and_money_beside_it() -> None:
    """`message.call` is stale; times and cost stand at the message and equal the list's."""
    world = VapiWorld()
    call = connected(world)

    report = content(messages_about([call])[-1])

    stale, shown = report["call"], world.shown(call.id)
    assert ("ringing", stale["createdAt"]) == (stale["status"], stale["updatedAt"])
    assert {"cost", "costs", "startedAt", "endedAt", "endedReason"}.isdisjoint(stale)
    for key in ("cost", "costs", "costBreakdown", "startedAt", "endedAt", "endedReason"):
        assert shown[key] == report[key]
    assert call.duration_ms == report["durationMs"]


def test_messages_of_a_connected_call_follow_its_life() -> None:
    """In progress, ended, report: in this order and with growing timestamps."""
    messages = messages_about([connected(VapiWorld())])

    found = [(message.type, content(message).get("status")) for message in messages]
    assert found == [
        ("status-update", "in-progress"),
        ("status-update", "ended"),
        ("end-of-call-report", None),
    ]
    assert sorted(message.at_ms for message in messages) == [content(each)["timestamp"] for each in messages]


def test_status_update_has_no_money_and_only_the_last_a_reason() -> None:
    """Status updates carry neither cost nor times."""
    running, ended, _ = map(content, messages_about([connected(VapiWorld())]))

    for update in (running, ended):
        assert {"cost", "costs", "startedAt", "endedAt"}.isdisjoint(update)
    assert ("endedReason" in running, "endedReason" in ended) == (False, True)


def test_never_connected_call_has_a_status_update_and_no_report() -> None:
    """A report for such calls comes only when asked for, with cost 0 and no times."""
    call = placing(VapiWorld())(1, never_connected_share=1.0)[0]

    usual = [message.type for message in messages_about([call])]
    report = content(messages_about([call], report_never_connected=True)[-1])

    assert usual == ["status-update"]
    assert (report["type"], report["cost"]) == ("end-of-call-report", 0)
    assert {"startedAt", "endedAt", "costs", "durationMs"}.isdisjoint(report)


def test_report_of_an_inline_assistant_names_no_assistant() -> None:
    """An inline assistant has no id, neither in the call nor beside it."""
    report = content(messages_about([connected(VapiWorld(), Route(phone_number_id="line"))])[-1])

    assert report["call"]["assistantId"] is None
    assert "id" not in report["assistant"]
    assert report["phoneNumber"]["id"] == "line"


def test_timestamps_are_milliseconds_after_the_end() -> None:
    """The report is sent a few seconds after `endedAt`."""
    report = content(messages_about([connected(VapiWorld())])[-1])

    ended_ms = datetime.fromisoformat(report["endedAt"]).timestamp() * 1000
    assert 3_000 < report["timestamp"] - ended_ms < 7_000
