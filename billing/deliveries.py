"""What identifies a webhook delivery, read in the receiver without building objects of the whole body."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from billing.errors import UnreadablePayload
from billing.provider_json import UNREADABLE, decode
from billing.twilio import read_form
from billing.vapi import identify_message

MAX_KEY_LENGTH = 200
"""A longer id is no id of a provider; its hash stands in for it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook as it is stored: `key` is the same for every repetition of it."""

    provider: str
    key: str
    type: str
    body: bytes


class _StripeIdentity(msgspec.Struct, frozen=True):
    id: str
    type: str


_stripe_identity = msgspec.json.Decoder(_StripeIdentity)
_any_json = msgspec.json.Decoder(msgspec.Raw)


def identify_stripe(body: bytes) -> Delivery:
    """By the event's id (`evt_…`), which Stripe keeps over all attempts; header and body time change with each.

    Raises:
        UnreadablePayload: not JSON.
    """
    try:
        event = decode(_stripe_identity, body)
    except msgspec.ValidationError:
        return _unidentified("stripe", body)
    except UNREADABLE as error:
        raise UnreadablePayload("the body is not JSON") from error
    if not event.id:
        return _unidentified("stripe", body, event.type)
    return Delivery("stripe", _storable(event.id), _storable(event.type or "unknown"), body)


def identify_vapi(body: bytes) -> Delivery:
    """By call, message type and, for status updates, status: `<call id>:end-of-call-report`.

    Not by a hash of the body: its presigned addresses differ on every delivery.

    Raises:
        UnreadablePayload: not JSON.
    """
    try:
        message = identify_message(body)
    except msgspec.ValidationError:
        return _unidentified("vapi", body)
    except UNREADABLE as error:
        raise UnreadablePayload("the body is not JSON") from error
    if not message.call_id:
        return _unidentified("vapi", body, message.type)
    parts = [message.call_id, message.type]
    if message.type == "status-update" and message.status:
        parts.append(message.status)
    return Delivery("vapi", _storable(":".join(parts)), _storable(message.type), body)


def identify_twilio(body: bytes) -> Delivery:
    """By message, status and error code: `<MessageSid>:undelivered:30003`, as Twilio advises.

    Raises:
        UnreadablePayload: not a form.
    """
    form = read_form(body)
    sid, status, error_code = (form.get(name, "") for name in ("MessageSid", "MessageStatus", "ErrorCode"))
    if not sid or not status:  # an incoming message, or something else that was pointed here
        return Delivery("twilio", f"sha256:{hashlib.sha256(body).hexdigest()}", "unknown", body)
    key = ":".join(filter(None, [sid, status, error_code]))
    return Delivery("twilio", _storable(key), "message-status", body)


def _unidentified(provider: str, body: bytes, event_type: str = "") -> Delivery:
    """JSON that does not say what it is about: stored for inspection, known by its content."""
    try:
        decode(_any_json, body)
    except UNREADABLE as error:
        raise UnreadablePayload("the body is not JSON") from error
    return Delivery(provider, f"sha256:{hashlib.sha256(body).hexdigest()}", _storable(event_type or "unknown"), body)


def _storable(text: str) -> str:
    """The text, or its hash if Postgres could not hold or index it."""
    if len(text) <= MAX_KEY_LENGTH and "\x00" not in text:
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


IDENTIFY: dict[str, Callable[[bytes], Delivery]] = {
    "stripe": identify_stripe,
    "vapi": identify_vapi,
    "twilio": identify_twilio,
}
