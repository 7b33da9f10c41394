"""Vapi's calls, as much of them as billing needs; everything else in a body is skipped unread.

Field facts: https://docs.vapi.ai (API reference, call object and server messages). Only `id`, `orgId`, `createdAt`
and `updatedAt` are promised; an absent value is an absent key, or null in older data.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec

from billing.errors import UnreadablePayload
from billing.money import micros_from_decimal
from billing.provider_json import UNREADABLE, decode

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


MICROSECOND = timedelta(microseconds=1)
GONE = ("deletion-failed", "not-found")
"""States that come after the end of a call, since October 2025. `endedAt` is absent while a call runs (facts: Vapi's
call object), so one that has it is over, and cost what it cost."""


class EndedCall(msgspec.Struct, frozen=True):
    """A call that is over, as `record_calls` in sql/ takes it."""

    id: str
    created_at: datetime
    assistant_id: str | None = None
    squad_id: str | None = None
    phone_number_id: str | None = None
    call_type: str | None = None
    ended_reason: str | None = None
    started_at: datetime | None = None
    """With `ended_at` absent when the call never connected, even though it has ended."""
    ended_at: datetime | None = None
    provider_cost_micros: int | None = None

    @property
    def duration_ms(self) -> int:
        """Milliseconds between start and end; Vapi has no such field."""
        if self.started_at is None or self.ended_at is None:
            return 0
        return ((self.ended_at - self.started_at) // MICROSECOND + 500) // 1000  # halves up, as in sql/


class ListedCall(msgspec.Struct, frozen=True, rename="camel"):
    """One row of `GET /call`."""

    id: str
    created_at: Instant
    updated_at: Instant
    status: str | None = None
    type: str | None = None
    ended_reason: str | None = None
    assistant_id: str | None = None
    squad_id: str | None = None
    phone_number_id: str | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    cost: Decimal | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended; a call that Vapi was asked to forget has, if it tells when (`GONE`)."""
        return self.status == "ended" or (self.status in GONE and self.ended_at is not None)

    def ended_call(self) -> EndedCall:
        """What the books take of it."""
        return EndedCall(
            id=self.id,
            created_at=self.created_at,
            assistant_id=self.assistant_id,
            squad_id=self.squad_id,
            phone_number_id=self.phone_number_id,
            call_type=self.type,
            ended_reason=self.ended_reason,
            started_at=self.started_at,
            ended_at=self.ended_at,
            provider_cost_micros=None if self.cost is None else micros_from_decimal(self.cost),
        )


class _Reference(msgspec.Struct, frozen=True):
    id: str | None = None


class _CallAsCreated(msgspec.Struct, frozen=True, rename="camel"):
    """`message.call`: the call when it began. Its status, times and cost are stale, so they are not even read."""

    id: str | None = None
    created_at: Instant | None = None
    type: str | None = None
    assistant_id: str | None = None
    squad_id: str | None = None
    phone_number_id: str | None = None


class ServerMessage(msgspec.Struct, frozen=True, rename="camel"):
    """`message` of a webhook; times and money of an end-of-call report stand here."""

    type: str | None = None
    status: str | None = None
    ended_reason: str | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    cost: Decimal | None = None
    call: _CallAsCreated | None = None
    assistant: _Reference | None = None
    phone_number: _Reference | None = None


class _Identity(msgspec.Struct, frozen=True):
    type: str | None = None
    status: str | None = None
    call: _Reference | None = None


class _IdentityEnvelope(msgspec.Struct, frozen=True):
    message: _Identity


class _Envelope(msgspec.Struct, frozen=True):
    message: ServerMessage


_identity = msgspec.json.Decoder(_IdentityEnvelope)
_envelope = msgspec.json.Decoder(_Envelope)
_listed_call = msgspec.json.Decoder(ListedCall)
_reference = msgspec.json.Decoder(_Reference)
_page = msgspec.json.Decoder(list[msgspec.Raw])


class MessageIdentity(msgspec.Struct, frozen=True):
    """What tells one webhook from another; there is no delivery id."""

    call_id: str | None
    type: str
    status: str | None


def identify_message(body: bytes) -> MessageIdentity:
    """Read no more of a webhook than its identity.

    Raises:
        msgspec.ValidationError: JSON, but not an object with a `message`.
        msgspec.DecodeError: not JSON.
    """
    message = decode(_identity, body).message
    return MessageIdentity(message.call.id if message.call else None, message.type or "unknown", message.status)


def read_report(body: bytes) -> EndedCall:
    """The call that an end-of-call report is about.

    `message.assistant` is whoever spoke. It tells whose the call is only if the call names neither a squad nor a
    phone number: else Vapi's list shows these alone (facts: Vapi's call object; a squad's call, or one that was
    resolved by assistant-request, has no `assistantId`), and the payer would depend on whether the report arrived.

    Raises:
        UnreadablePayload: no call id, or values of another form than documented.
    """
    try:
        message = decode(_envelope, body).message
    except UNREADABLE as error:
        raise UnreadablePayload(f"the report is not readable: {error}") from error
    call, started_at, ended_at = message.call or _CallAsCreated(), message.started_at, message.ended_at
    created_at = call.created_at or started_at or ended_at
    if not call.id or created_at is None:
        raise UnreadablePayload("the report names no call, or gives no time for it")
    if problem := _problem_of_times(started_at, ended_at) or _problem_of_cost(message.cost):
        raise UnreadablePayload(f"the report of call {call.id} {problem}")
    phone_number_id = call.phone_number_id or (message.phone_number.id if message.phone_number else None)
    spoke = message.assistant.id if message.assistant and not (call.squad_id or phone_number_id) else None
    return EndedCall(
        id=call.id,
        created_at=created_at,
        assistant_id=call.assistant_id or spoke,
        squad_id=call.squad_id,
        phone_number_id=phone_number_id,
        call_type=call.type,
        ended_reason=message.ended_reason,
        started_at=started_at,
        ended_at=ended_at,
        provider_cost_micros=None if message.cost is None else micros_from_decimal(message.cost),
    )


class UnreadableRow(msgspec.Struct, frozen=True):
    """A row of the list that could not be read, for a finding."""

    call_id: str | None
    problem: str


def read_page(body: bytes) -> list[ListedCall | UnreadableRow]:
    """The rows of one answer of `GET /call`, a bare array; a broken row does not spoil the others.

    Raises:
        msgspec.DecodeError: the answer is no JSON array at all.
    """
    return [_read_row(row) for row in decode(_page, body)]


def _read_row(row: msgspec.Raw) -> ListedCall | UnreadableRow:
    try:
        call = decode(_listed_call, row)
    except UNREADABLE as error:
        return UnreadableRow(_id_of(row), str(error))
    problem = _problem_of_times(call.started_at, call.ended_at) if call.is_over else None
    problem = problem or _problem_of_cost(call.cost) or _problem_of_storing(call)
    return UnreadableRow(call.id, f"it {problem}") if problem else call


def _problem_of_times(started_at: datetime | None, ended_at: datetime | None) -> str | None:
    """What is wrong with the times of a call that is over: it has both, or, if it never connected, no start."""
    if started_at is None:
        return None
    if ended_at is None:
        return "started and is over, but has no end"
    return "ends before it starts" if ended_at < started_at else None


def _problem_of_cost(cost: Decimal | None) -> str | None:
    try:
        micros_from_decimal(cost or Decimal(0))
    except ValueError:
        return "costs what is no amount of money"
    return None


def _problem_of_storing(call: ListedCall) -> str | None:
    """What Postgres could not hold: no id, a NUL in a text, a time that leaves the calendar in UTC."""
    values = [getattr(call, name) for name in call.__struct_fields__]
    if not call.id or any("\x00" in text for text in values if isinstance(text, str)):
        return "has no id, or texts that cannot be stored"
    try:
        for moment in values:
            if isinstance(moment, datetime):
                moment.astimezone(UTC)
    except OverflowError:
        return "happened at a time that is none"
    return None


def _id_of(row: msgspec.Raw) -> str | None:
    try:
        return decode(_reference, row).id
    except UNREADABLE:
        return None
