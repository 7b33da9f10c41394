"""What makes two deliveries the same one."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.deliveries import IDENTIFY, MAX_KEY_LENGTH, identify_stripe, identify_vapi
from billing.errors import UnreadablePayload
from tests.payloads import body, content, encode, names

CALL_ID = "01a1a1b7-ac5a-7aa7-95ab-930039dde801"
DEEP = 100_000
SENDERS_OF_JSON = ["stripe", "vapi"]
"""Twilio sends forms."""

NOT_JSON = {
    "empty": b"",
    "space": b" ",
    "text": b"hello",
    "half a word": b"nul",
    "an open object": b'{"id": "evt_1", "type": "x"',
    "an open string": b'{"id": "evt_1, "type": "x"}',
    "more behind it": b'{"id": "evt_1", "type": "x", "message": {}} trailing',
    "two objects": b'{"id": "evt_1", "type": "x"}{"id": "evt_2", "type": "x"}',
    "single quotes": b"{'id': 'evt_1', 'type': 'x'}",
    "a comma too many": b'{"id": "evt_1", "type": "x",}',
    "NaN": b'{"id": "evt_1", "type": "x", "message": NaN}',
    "form data": b"id=evt_1&type=x",
    "XML": b"<event><id>evt_1</id></event>",
    "a byte order mark": b'\xef\xbb\xbf{"id": "evt_1", "type": "x"}',
    "UTF-16": '{"id": "evt_1", "type": "x"}'.encode("utf-16"),
    "no UTF-8": b'{"id": "\xff", "type": "x", "message": {"type": "\xff"}}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "a NUL": b"\x00",
    "a raw control character": b'{"id": "a\nb", "type": "x", "message": {"type": "a\nb"}}',
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"message":' * DEEP + b"1" + b"}" * DEEP,
    "a deep end": b'{"id":"evt_1","type":"x","message":{"type":"x","call":{"id":"c"}},"x":'
    + b"[" * DEEP
    + b"]" * DEEP
    + b"}",
}
WITHOUT_IDENTITY = {
    "null": b"null",
    "a number": b"1",
    "a text": b'"evt_1"',
    "an array": b"[]",
    "an empty object": b"{}",
    "an id that is a number": b'{"id": 5, "type": "x", "message": {"type": 5}}',
    "an id that is null": b'{"id": null, "type": "x", "message": null}',
    "an empty id": b'{"id": "", "type": "x", "message": {"call": {"id": ""}}}',
    "no type": b'{"id": "evt_1", "message": {}}',
    "a message that is an array": b'{"message": []}',
    "a call that is null": b'{"message": {"type": "end-of-call-report", "call": null}}',
    "a call that is a text": b'{"message": {"type": "end-of-call-report", "call": "c"}}',
    "a number without end": b'{"n": ' + b"9" * 5000 + b"}",
    "a number beyond all": b'{"n": 1e999}',
}


@pytest.mark.parametrize("name", names("stripe"))
def test_stripe_event_is_known_by_its_id(name: str) -> None:
    """Whatever its type."""
    delivery = identify_stripe(body("stripe", name))

    assert delivery.key == content("stripe", name)["id"]
    assert (delivery.provider, delivery.type, delivery.body) == ("stripe", name, body("stripe", name))


def test_stripe_event_delivered_again_in_another_form_has_the_same_key() -> None:
    """Attempts differ in `pending_webhooks` and may differ in spacing."""
    event = content("stripe", "payment_intent.succeeded")
    again = json.dumps({**event, "pending_webhooks": 0}, indent=4).encode()

    assert identify_stripe(again).key == identify_stripe(encode(event)).key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("end-of-call-report", f"{CALL_ID}:end-of-call-report"),
        ("end-of-call-report-never-connected", "01a1a1ba-2f40-7c11-8d3e-5b7f90c2ae14:end-of-call-report"),
        ("status-update-in-progress", f"{CALL_ID}:status-update:in-progress"),
        ("status-update-ended", f"{CALL_ID}:status-update:ended"),
        ("hang", f"{CALL_ID}:hang"),
        ("call.deleted", f"{CALL_ID}:call.deleted"),
    ],
)
def test_vapi_message_is_known_by_call_type_and_status(name: str, key: str) -> None:
    """The call's id alone would let a status update swallow the report that follows."""
    delivery = identify_vapi(body("vapi", name))

    assert (delivery.provider, delivery.key) == ("vapi", key)
    assert delivery.type == content("vapi", name)["message"]["type"]


def test_vapi_report_with_other_presigned_addresses_has_the_same_key() -> None:
    """Every delivery has its own, so the body's hash says nothing."""
    report = content("vapi", "end-of-call-report")
    first = encode(report)
    report["message"]["recordingUrl"] += "?X-Amz-Signature=another"
    report["message"]["artifact"]["presignedLogUrl"] = "https://storage.vapi.ai/log?X-Amz-Signature=another"
    report["message"]["timestamp"] += 1

    assert identify_vapi(encode(report)).key == identify_vapi(first).key
    assert encode(report) != first


def test_vapi_message_without_a_type_is_known_by_its_call() -> None:
    """It is stored as of an unknown type."""
    delivery = identify_vapi(b'{"message": {"call": {"id": "c"}}}')

    assert (delivery.key, delivery.type) == ("c:unknown", "unknown")


def test_vapi_report_without_a_call_keeps_its_type() -> None:
    """So that it is found among its like when it is looked at."""
    delivery = identify_vapi(b'{"message": {"type": "end-of-call-report"}}')

    assert delivery.key.startswith("sha256:")
    assert delivery.type == "end-of-call-report"


@pytest.mark.parametrize("provider", SENDERS_OF_JSON)
@pytest.mark.parametrize("case", NOT_JSON)
def test_body_that_is_not_json_is_unreadable(provider: str, case: str) -> None:
    """Including what is nested so deeply that reading it would exhaust the stack."""
    with pytest.raises(UnreadablePayload):
        IDENTIFY[provider](NOT_JSON[case])


@pytest.mark.parametrize("provider", SENDERS_OF_JSON)
@pytest.mark.parametrize("case", WITHOUT_IDENTITY)
def test_json_without_an_identity_is_known_by_its_content(provider: str, case: str) -> None:
    """It is signed, so it is kept for somebody to look at."""
    raw = WITHOUT_IDENTITY[case]
    delivery = IDENTIFY[provider](raw)

    assert delivery.key.startswith("sha256:")
    assert delivery.body == raw
    assert delivery.type
    assert IDENTIFY[provider](raw + b" ").key != delivery.key


@pytest.mark.parametrize(
    "value", ["a\x00b", "x" * (MAX_KEY_LENGTH + 1), "鍵" * (MAX_KEY_LENGTH + 1), "x" * 1_000_000]
)
def test_id_or_type_that_postgres_could_not_hold_is_replaced_by_its_hash(value: str) -> None:
    """NUL and overlong texts; different ones stay different."""
    of_stripe = identify_stripe(encode({"id": value, "type": value}))
    of_vapi = identify_vapi(encode({"message": {"type": value, "call": {"id": value}}}))

    for text in (of_stripe.key, of_stripe.type, of_vapi.key, of_vapi.type):
        assert text.startswith("sha256:")
        assert len(text) <= MAX_KEY_LENGTH
    assert identify_stripe(encode({"id": value + "y", "type": "x"})).key != of_stripe.key


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ud83d\\ud83d", "\\ud83dx", "\\ude00\\ud83d"])
def test_text_cut_in_the_middle_of_an_emoji_does_not_make_a_report_unreadable(half: str) -> None:
    """JavaScript writes the half that is left as an escape; billing does not read that text at all."""
    report = content("vapi", "end-of-call-report")
    report["message"]["transcript"] = "HERE"
    raw = encode(report).replace(b"HERE", half.encode())

    delivery = identify_vapi(raw)

    assert delivery.key == f"{CALL_ID}:end-of-call-report"
    assert delivery.body == raw


def test_empty_type_is_stored_as_unknown() -> None:
    """A column of types stays readable."""
    assert identify_stripe(b'{"id": "evt_1", "type": ""}').type == "unknown"


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # halves of surrogate pairs as well
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "message", "call", "status", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(SENDERS_OF_JSON))
def test_any_json_is_identified_the_same_way_twice_and_can_be_stored(content: Any, provider: str) -> None:
    """Key and type are texts that Postgres holds and indexes."""
    raw = encode(content)
    first = IDENTIFY[provider](raw)

    assert IDENTIFY[provider](raw) == first
    for text in (first.key, first.type):
        assert 0 < len(text) <= MAX_KEY_LENGTH
        assert "\x00" not in text
        text.encode()


@given(st.binary(max_size=64), st.sampled_from(sorted(IDENTIFY)))
def test_any_bytes_are_identified_or_unreadable(raw: bytes, provider: str) -> None:
    """Nothing else is raised."""
    with suppress(UnreadablePayload):
        assert IDENTIFY[provider](raw).body == raw
