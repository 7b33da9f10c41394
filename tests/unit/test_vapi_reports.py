"""What Vapi's messages mean for the books."""

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.errors import UnreadablePayload
from billing.events import Effect, RecordCall, Skip, interpret
from billing.vapi import EndedCall, read_report
from tests.payloads import body, content, encode, names

CALL = EndedCall(
    id="01a1a1b7-ac5a-7aa7-95ab-930039dde801",
    created_at=datetime(2026, 11, 3, 14, 2, 11, 418_000, UTC),
    assistant_id="a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34",
    phone_number_id="c7e2b9d4-1f63-4a8e-b0a5-92d4e6f81c57",
    metadata="tenant_id=tenant_42",
    call_type="inboundPhoneCall",
    ended_reason="customer-ended-call",
    started_at=datetime(2026, 11, 3, 14, 2, 12, 6_000, UTC),
    ended_at=datetime(2026, 11, 3, 14, 4, 47, 732_000, UTC),
    provider_cost_micros=188_400,
)
REPORT = "end-of-call-report"


def merged(old: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The object with other values; `...` removes one."""
    return {key: value for key, value in {**old, **changes}.items() if value is not ...}


def changed(of_call: dict[str, Any] | None = None, /, **message: Any) -> bytes:
    """The report with other values in `message`, or in `message.call`."""
    report = content("vapi", REPORT)
    report["message"]["call"] = merged(report["message"]["call"], of_call or {})
    report["message"] = merged(report["message"], message)
    return encode(report)


def meaning(name: str) -> Effect:
    """The effect of a stored message."""
    return interpret("vapi", content("vapi", name)["message"]["type"], body("vapi", name))


@pytest.mark.parametrize("name", names("vapi"))
def test_vapi_message_records_a_call_or_is_skipped_with_a_reason(name: str) -> None:
    """Only the report of a call's end has times and money."""
    effect = meaning(name)

    if name.startswith(REPORT):
        assert isinstance(effect, RecordCall)
    else:
        assert isinstance(effect, Skip)
        assert effect.reason


def test_report_is_read_with_times_and_money_of_the_message() -> None:
    """`message.call` is as it was at the start; only what never changes is taken from there."""
    assert meaning(REPORT) == RecordCall(CALL)
    assert CALL.duration_ms == 155_726


def test_report_of_a_call_that_never_connected_has_no_times() -> None:
    """Nulls, as in older data, are as good as absent keys."""
    call = read_report(body("vapi", f"{REPORT}-never-connected"))

    assert (call.started_at, call.ended_at, call.provider_cost_micros, call.duration_ms) == (None, None, 0, 0)
    assert call.ended_reason == "customer-did-not-answer"


def test_report_ignores_the_stale_times_and_cost_of_the_call() -> None:
    """They are of the moment when the call was created."""
    stale = {"startedAt": "2020-01-01T00:00:00Z", "endedAt": "not yet", "cost": {}, "status": 5}

    assert read_report(changed(stale)) == CALL


@pytest.mark.parametrize(
    ("call", "message", "field", "value"),
    [
        ({"assistantId": None}, {}, "assistant_id", None),
        ({"assistantId": None, "phoneNumberId": None}, {}, "assistant_id", None),
        ({"assistantId": None, "phoneNumberId": None}, {"phoneNumber": ...}, "assistant_id", CALL.assistant_id),
        ({"assistantId": None, "phoneNumberId": None, "squadId": "s"}, {"phoneNumber": ...}, "assistant_id", None),
        ({"assistantId": ...}, {"assistant": {"name": "inline"}}, "assistant_id", None),
        ({"assistantId": ...}, {"assistant": None}, "assistant_id", None),
        ({"phoneNumberId": ...}, {}, "phone_number_id", CALL.phone_number_id),
        ({"phoneNumberId": None}, {"phoneNumber": ...}, "phone_number_id", None),
        ({"squadId": "squad-1"}, {}, "squad_id", "squad-1"),
        ({"squadId": ...}, {}, "squad_id", None),
        ({"type": ...}, {}, "call_type", None),
        ({"type": "call.of.the.future"}, {}, "call_type", "call.of.the.future"),
        ({}, {"endedReason": None}, "ended_reason", None),
        ({}, {"endedReason": "reason-of-the-future"}, "ended_reason", "reason-of-the-future"),
        ({}, {"cost": None}, "provider_cost_micros", None),
        ({}, {"cost": ...}, "provider_cost_micros", None),
        ({}, {"cost": 0}, "provider_cost_micros", 0),
        ({}, {"cost": 0.1884}, "provider_cost_micros", 188_400),
        ({}, {"cost": "0.1884"}, "provider_cost_micros", 188_400),
        ({}, {"cost": 1.83e-05}, "provider_cost_micros", 18),
        ({}, {"startedAt": ..., "endedAt": ...}, "started_at", None),
        ({}, {"startedAt": None}, "ended_at", CALL.ended_at),
        ({}, {"startedAt": "2026-11-03T15:02:12.006+01:00"}, "started_at", CALL.started_at),
        ({"createdAt": None}, {}, "created_at", CALL.started_at),
        ({"createdAt": ...}, {"startedAt": None}, "created_at", CALL.ended_at),
    ],
)
def test_report_with_values_missing_or_in_other_forms_is_read_as_far_as_it_goes(
    call: dict[str, Any], message: dict[str, Any], field: str, value: Any
) -> None:
    """All but the call's id and one time may be absent or null."""
    assert getattr(read_report(changed(call, **message)), field) == value


def test_report_with_fields_of_the_future_is_read() -> None:
    """Unknown keys and enum values pass unread."""
    assert read_report(changed({"future": [1]}, future={"deep": [None]}, costs="not a list", artifact=5)) == CALL


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"id": ...}, {}),
        ({"id": None}, {}),
        ({"id": ""}, {}),
        ({"id": 5}, {}),
        ({}, {"call": ...}),
        ({}, {"call": None}),
        ({}, {"call": "01a1a1b7"}),
        ({"createdAt": ...}, {"startedAt": ..., "endedAt": ...}),
        ({"createdAt": "2026-11-03T14:02:11.418"}, {}),
        ({"createdAt": "yesterday"}, {}),
        ({}, {"startedAt": "2026-11-03T14:02:12.006"}),
        ({}, {"startedAt": 1_793_714_532_006}),
        ({}, {"endedAt": "2026-11-03T14:04:47"}),
        ({}, {"endedAt": "2026-13-03T14:04:47Z"}),
        ({}, {"cost": "a lot"}),
        ({}, {"cost": ""}),
        ({}, {"cost": True}),
        ({}, {"cost": [0.1884]}),
        ({}, {"assistant": "a3d6c1f2"}),
    ],
)
def test_report_that_cannot_be_billed_is_unreadable(call: dict[str, Any], message: dict[str, Any]) -> None:
    """No id, no time at all, times without a zone, or a cost of another form."""
    with pytest.raises(UnreadablePayload):
        read_report(changed(call, **message))


@pytest.mark.parametrize("cost", ["NaN", "Infinity", 1e300, "1e999999"])
def test_report_whose_cost_is_no_amount_is_held_for_it(cost: object) -> None:
    """Its times may be right; a person looks it up."""
    call = read_report(changed(cost=cost))

    assert (call.provider_cost_micros, call.problem) == (None, "its cost is no amount of money")


@pytest.mark.parametrize(
    ("call", "message", "metadata"),
    [
        ({"metadata": {"org_id": "acme"}}, {}, "org_id=acme"),
        ({"assistantOverrides": {"metadata": {"org_id": "acme"}}}, {}, "org_id=acme"),
        ({"assistantId": None, "assistant": {"metadata": {"org_id": "acme"}}}, {}, "org_id=acme"),
        ({"assistantId": None}, {"assistant": {"metadata": {"org_id": "acme"}}}, "org_id=acme"),
        ({}, {"assistant": {"metadata": {"org_id": "acme"}}}, None),
        ({"assistantId": None}, {"assistant": {"id": "saved", "metadata": {"org_id": "acme"}}}, None),
        ({"metadata": "x"}, {}, None),
    ],
)
def test_report_names_whose_it_is_where_the_list_does(
    call: dict[str, Any], message: dict[str, Any], metadata: str | None
) -> None:
    """The list shows no metadata of a saved assistant; it may not decide only because the report arrived."""
    assert read_report(changed({"assistantOverrides": ..., **call}, **message)).metadata == metadata


@pytest.mark.parametrize(
    "broken", [b"", b"null", b"[]", b"{}", b'{"message": null}', b'{"message": ' + b"[" * 100_000, b'{"message": {}}']
)
def test_report_that_is_no_report_is_unreadable(broken: bytes) -> None:
    """By either way in."""
    with pytest.raises(UnreadablePayload):
        read_report(broken)
    with pytest.raises(UnreadablePayload):
        interpret("vapi", REPORT, broken)


def test_report_whose_transcript_was_cut_in_the_middle_of_an_emoji_is_read() -> None:
    """The half of a surrogate pair that is left stands in a text that billing does not read."""
    assert read_report(changed(transcript="bye \ud83d", summary="\ude00")) == CALL


def test_mode_of_stripe_does_not_concern_vapi() -> None:
    """Vapi has no test mode in its messages."""
    assert interpret("vapi", REPORT, body("vapi", REPORT), livemode=True) == RecordCall(CALL)
