"""What Twilio tells of messages: status callbacks (forms) and the Message resource (JSON).

Neither numbers nor texts leave this module, but for the sender, by which an organization is found.
https://www.twilio.com/docs/messaging/api/message-resource
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

import msgspec

from billing.errors import UnreadablePayload
from billing.money import currency_code, micros_from_decimal
from billing.provider_json import UNREADABLE, decode

OUTGOING = frozenset(
    [
        *("scheduled", "accepted", "queued", "sending", "sent"),
        *("canceled", "failed", "partially_delivered", "undelivered", "delivered", "read"),
    ]
)
"""Every status of an outgoing message; `sms_rank` in `sql/` knows their order."""
INCOMING = frozenset(["receiving", "received"])
BILLABLE = frozenset(["sent", "partially_delivered", "undelivered", "delivered", "read"])
"""A carrier has taken it; only then are the segments those that are billed."""
MEASURED = BILLABLE | {"failed"}
"""Of which the segments count, if a carrier took it: one that was sent may still end as failed."""

MAX_FIELDS = 200
"""Of a form. Twilio sends about ten parameters, and may add some."""
MESSAGE_SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")
ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
ERROR_CODE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class ToldMessage:
    """What one callback or one look at the Message resource says of a message."""

    sid: str
    status: str
    account_sid: str
    error_code: int | None = None
    messaging_service_sid: str | None = None
    sender: str | None = None
    """As Twilio writes it: `+14155550123`, a short code, a name, or `whatsapp:+14155550123`."""
    num_segments: int | None = None
    sent_at: datetime | None = None
    provider_price_micros: int | None = None
    provider_currency: str | None = None
    polled: bool = False

    @property
    def is_incoming(self) -> bool:
        """Whether somebody wrote to us."""
        return self.status in INCOMING


def read_form(body: bytes) -> dict[str, str]:
    """The parameters of a form; of a repeated one the last.

    Raises:
        UnreadablePayload: not a form.
    """
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:  # UnicodeDecodeError is one
        raise UnreadablePayload("the body is not a form") from error
    if not pairs:
        raise UnreadablePayload("the body is empty")
    return dict(pairs)


def read_callback(body: bytes) -> ToldMessage:
    """A status callback. It has neither segments, nor a price, nor a time.

    Raises:
        UnreadablePayload: it lacks what identifies a message, or has a status that nobody knows.
    """
    form = read_form(body)
    return _checked(
        ToldMessage(
            sid=form.get("MessageSid", ""),
            status=form.get("MessageStatus", ""),
            account_sid=form.get("AccountSid", ""),
            error_code=_error_code(form.get("ErrorCode", "")),
            messaging_service_sid=form.get("MessagingServiceSid") or None,
            sender=form.get("From") or None,
        )
    )


class _Message(msgspec.Struct, frozen=True):
    sid: str
    status: str
    account_sid: str
    error_code: int | None = None
    messaging_service_sid: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    num_segments: str | None = None
    price: str | None = None
    price_unit: str | None = None
    date_created: str | None = None
    date_sent: str | None = None


_message = msgspec.json.Decoder(_Message)


def read_message(body: bytes) -> ToldMessage:
    """The Message resource. Segments count once a carrier has the message: before they are 0, or may change.

    Raises:
        UnreadablePayload: JSON of another form, or a number or time that is none.
    """
    try:
        message = decode(_message, body)
    except UNREADABLE as error:
        raise UnreadablePayload(f"Twilio's message is not readable: {error}") from error
    return _told(message)


class _Page(msgspec.Struct, frozen=True):
    messages: list[msgspec.Raw]
    next_page_uri: str | None = None


_page = msgspec.json.Decoder(_Page)


@dataclass(frozen=True, slots=True)
class MessagePage:
    """A page of Twilio's list of messages: the outgoing ones, and how many could not be read."""

    told: Sequence[ToldMessage]
    unreadable: int
    next_path: str | None
    """Where the next page is, within Twilio's API; None: this was the last."""


def read_page(body: bytes) -> MessagePage:
    """A page of the list. What is no message of ours holds up no other.

    Raises:
        UnreadablePayload: no page of messages.
    """
    try:
        page = decode(_page, body)
    except UNREADABLE as error:
        raise UnreadablePayload(f"Twilio's list of messages is not readable: {error}") from error
    told: list[ToldMessage] = []
    unreadable = 0
    for raw in page.messages:
        try:
            told.append(read_message(bytes(raw)))
        except UnreadablePayload:
            unreadable += 1
    return MessagePage(
        [message for message in told if not message.is_incoming], unreadable, page.next_page_uri or None
    )


def _told(message: _Message) -> ToldMessage:
    told = _checked(
        ToldMessage(
            sid=message.sid,
            status=message.status,
            account_sid=message.account_sid,
            error_code=message.error_code or None,
            messaging_service_sid=message.messaging_service_sid,
            sender=message.from_,
            polled=True,
        )
    )
    if told.status not in MEASURED:
        return told
    price_micros = _price_micros(message.price)
    return replace(
        told,
        num_segments=_segments(message.num_segments),
        sent_at=_moment(message.date_sent or message.date_created),
        provider_price_micros=price_micros,
        provider_currency=None if price_micros is None else _currency(message.price_unit),
    )


def _checked(told: ToldMessage) -> ToldMessage:
    if not MESSAGE_SID.fullmatch(told.sid) or not ACCOUNT_SID.fullmatch(told.account_sid):
        raise UnreadablePayload("the message has no MessageSid (SM… or MM…) or no AccountSid (AC…)")
    if told.status not in OUTGOING | INCOMING:
        raise UnreadablePayload(
            f"status {told.status[:30]!r} of a message is not known here: if Twilio documents it, add it to "
            "billing/twilio.py and sms_rank"
        )
    return told


def _error_code(text: str) -> int | None:
    if text and not ERROR_CODE.fullmatch(text):
        raise UnreadablePayload("ErrorCode is not a number")
    return int(text or 0) or None


def _segments(text: str | None) -> int | None:
    """None for 0, which Twilio says until it has chosen a sender."""
    if not re.fullmatch(r"[0-9]{1,4}", text or "0"):
        raise UnreadablePayload("num_segments is not a number")
    return int(text or 0) or None


def _price_micros(text: str | None) -> int | None:
    """Twilio writes what it charges as a negative number: "-0.00750" is 7500."""
    try:
        return None if text is None else -micros_from_decimal(Decimal(text))
    except (InvalidOperation, ValueError) as error:
        raise UnreadablePayload("price is not an amount") from error


def _currency(text: str | None) -> str:
    """In either case, as seen."""
    try:
        return currency_code(text or "")
    except ValueError as error:
        raise UnreadablePayload("price_unit is not a currency") from error


def _moment(text: str | None) -> datetime | None:
    """RFC 2822, GMT."""
    try:
        return None if text is None else parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UnreadablePayload("a time of the message is not RFC 2822") from error
