"""What a callback and the Message resource say, and what is no such thing."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.deliveries import MAX_KEY_LENGTH, identify_twilio
from billing.errors import UnreadablePayload
from billing.events import RecordMessage, Skip, interpret
from billing.twilio import ToldMessage, read_callback, read_message, read_page

SID = "SM" + "a1" * 16
ACCOUNT = "AC" + "b2" * 16
FORM = {
    "AccountSid": ACCOUNT,
    "MessageSid": SID,
    "MessageStatus": "undelivered",
    "SmsSid": SID,
    "SmsStatus": "undelivered",
    "From": "+15005550006",
    "To": "+15005550009",
    "ErrorCode": "30003",
}
MESSAGE = {
    "sid": SID,
    "account_sid": ACCOUNT,
    "status": "delivered",
    "from": "+15005550006",
    "to": "+15005550009",
    "body": "private",
    "num_segments": "2",
    "price": "-0.00750",
    "price_unit": "usd",
    "date_created": "Sun, 01 Nov 2026 11:59:58 +0000",
    "date_sent": "Sun, 01 Nov 2026 12:00:00 +0000",
    "error_code": None,
    "messaging_service_sid": None,
}


def form(**changes: str | None) -> bytes:
    """A callback with these parameters changed; None leaves one out."""
    return urlencode({name: content for name, content in (FORM | changes).items() if content is not None}).encode()


def resource(**changes: Any) -> bytes:
    """A Message resource with these fields changed."""
    return json.dumps(MESSAGE | changes).encode()


def test_callback_is_read_without_the_recipient() -> None:
    """Who pays can be found by the sender; the other number is nobody's business here."""
    assert read_callback(form(MessagingServiceSid="MG1")) == ToldMessage(
        sid=SID,
        status="undelivered",
        account_sid=ACCOUNT,
        error_code=30003,
        messaging_service_sid="MG1",
        sender="+15005550006",
    )


def test_resource_says_what_was_billed() -> None:
    """A price that Twilio writes as negative is what it takes; segments are a number in a text."""
    told = read_message(resource())

    assert (told.num_segments, told.provider_price_micros, told.provider_currency) == (2, 7500, "USD")
    assert told.sent_at == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert told.polled


@pytest.mark.parametrize("status", ["scheduled", "accepted", "queued", "sending", "canceled"])
def test_segments_count_only_once_a_carrier_has_the_message(status: str) -> None:
    """Before, they may change, and with a messaging service they are 0."""
    told = read_message(resource(status=status))

    assert (told.num_segments, told.sent_at, told.provider_price_micros) == (None, None, None)


def test_segments_of_a_failed_message_are_read_in_case_a_carrier_had_it() -> None:
    """Whether it is charged is decided by what callbacks told."""
    assert read_message(resource(status="failed", error_code=30008)).num_segments == 2


def test_page_of_the_list_is_read_without_what_is_no_message_of_ours() -> None:
    """Incoming messages and unreadable ones hold up no other."""
    messages = [MESSAGE, MESSAGE | {"status": "received"}, MESSAGE | {"num_segments": "many"}]
    page = read_page(json.dumps({"messages": messages, "next_page_uri": "/2010-04-01/next"}).encode())

    assert ([told.sid for told in page.told], page.unreadable, page.next_path) == ([SID], 1, "/2010-04-01/next")


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"messages": 1}'])
def test_answer_that_is_no_page_is_unreadable(body: bytes) -> None:
    """An empty day has an empty list, and not nothing."""
    with pytest.raises(UnreadablePayload):
        read_page(body)


def test_what_twilio_does_not_know_yet_is_none() -> None:
    """0 segments, no price, no time of sending."""
    told = read_message(resource(num_segments="0", price=None, price_unit=None, date_sent=None, error_code=0))

    assert (told.num_segments, told.provider_price_micros, told.provider_currency, told.error_code) == (None,) * 4
    assert told.sent_at == datetime(2026, 11, 1, 11, 59, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"MessageSid": None},
        {"MessageSid": "../../Accounts"},
        {"MessageSid": SID + "0"},
        {"AccountSid": None},
        {"AccountSid": SID},
        {"MessageStatus": "teleported"},
        {"ErrorCode": "30003x"},
        {"ErrorCode": "9" * 40},
    ],
)
def test_callback_that_names_no_message_or_status_is_unreadable(changes: dict[str, str | None]) -> None:
    """Nothing else goes into addresses or the books."""
    with pytest.raises(UnreadablePayload):
        read_callback(form(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_segments": "two"},
        {"num_segments": "-1"},
        {"num_segments": 2},
        {"price": "a lot"},
        {"price": "NaN"},
        {"price": "-1e30"},
        {"price_unit": None},
        {"date_sent": "yesterday"},
        {"status": "teleported"},
        {"sid": None},
    ],
)
def test_resource_of_another_form_is_unreadable(changes: dict[str, Any]) -> None:
    """A number that cannot be read is no number of money."""
    with pytest.raises(UnreadablePayload):
        read_message(resource(**changes))


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_unreadable(raw: bytes) -> None:
    """Nothing else is raised."""
    for read in (read_callback, read_message):
        with pytest.raises(UnreadablePayload):
            read(raw)


def test_delivery_is_known_by_message_status_and_error() -> None:
    """A repetition has the same key, whatever Twilio adds; another error of the same status has another one."""
    assert identify_twilio(form()).key == f"{SID}:undelivered:30003"
    assert identify_twilio(form(New="parameter", To="+1")).key == f"{SID}:undelivered:30003"
    assert identify_twilio(form(MessageStatus="sent", ErrorCode=None)).key == f"{SID}:sent"
    assert identify_twilio(form()).type == "message-status"


def test_form_without_a_status_is_kept_for_somebody_to_look_at() -> None:
    """An incoming message that was pointed here is known by its content, and skipped."""
    delivery = identify_twilio(form(MessageStatus=None, SmsStatus="received", Body="hello"))

    assert (delivery.key[:7], delivery.type) == ("sha256:", "unknown")
    assert isinstance(interpret("twilio", delivery.type, delivery.body), Skip)


@pytest.mark.parametrize("sid", ["a\x00b", "x" * (MAX_KEY_LENGTH + 1)])
def test_sid_that_postgres_could_not_hold_is_replaced_by_its_hash(sid: str) -> None:
    """It is signed, so it is stored."""
    assert identify_twilio(form(MessageSid=sid)).key.startswith("sha256:")


@pytest.mark.parametrize(
    ("raw", "reason"), [(b"", "empty"), (b"hello", "not a form"), (b"\xff=1", "not a form"), (b"a=1&" * 300, "not a")]
)
def test_body_that_is_no_form_is_unreadable(raw: bytes, reason: str) -> None:
    """The receiver answers 400."""
    with pytest.raises(UnreadablePayload, match=reason):
        identify_twilio(raw)


def test_incoming_messages_are_not_charged() -> None:
    """The status says which way it went."""
    assert isinstance(interpret("twilio", "message-status", form(MessageStatus="received", ErrorCode=None)), Skip)
    assert isinstance(interpret("twilio", "message-status", form()), RecordMessage)
