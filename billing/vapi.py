"""Vapi's calls, as much of them as billing needs; everything else in a body is skipped unread.

Field facts: https://docs.vapi.ai (API reference, call object and server messages). Only `id`, `orgId`, `createdAt`
and `updatedAt` are promised; an absent value is an absent key, or null in older data.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec

from billing.errors import UnreadablePayload
from billing.money import micros_from_decimal
from billing.provider_json import UNREADABLE, decode

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


T = TypeVar("T")
MICROSECOND = timedelta(microseconds=1)
LONGEST_CALL_SECONDS = 43_200
"""Vapi ends a call by itself then (facts: `maxDurationSeconds` is at most so)."""
LONGEST_ID = 255
"""Characters; Vapi's ids are UUIDs, and an index of the books could not hold what is ten times as long."""
ABSENT = msgspec.Raw()
TENANT_KEYS = ("org_id", "organization_id", "tenant_id")
"""Of a call's metadata: the first that is there says whose it is, if a route trusts it."""


class EndedCall(msgspec.Struct, frozen=True):
    """A call that is over, as `record_calls` in sql/ takes it."""

    id: str
    created_at: datetime
    assistant_id: str | None = None
    squad_id: str | None = None
    workflow_id: str | None = None
    phone_number_id: str | None = None
    metadata: str | None = None
    """What its metadata says of whose it is, as `key=value`; of TENANT_KEYS."""
    call_type: str | None = None
    ended_reason: str | None = None
    started_at: datetime | None = None
    """With `ended_at` absent when the call never connected, even though it has ended."""
    ended_at: datetime | None = None
    provider_cost_micros: int | None = None
    max_duration_seconds: int | None = None
    """How long it may last, if whoever started it said so."""
    problem: str | None = None
    """What of it could not be read, so that it is held; what cannot be, SQL's call_problem says."""

    @property
    def duration_ms(self) -> int:
        """Milliseconds between start and end; Vapi has no such field. 0 if they are not both there, in this order."""
        if self.started_at is None or self.ended_at is None:
            return 0
        return max(0, ((self.ended_at - self.started_at) // MICROSECOND + 500) // 1000)  # halves up, as in sql/


class _Metadata(msgspec.Struct, frozen=True):
    """What a reseller wrote on a call, or whoever started it; only what may say whose it is."""

    org_id: Any = None
    organization_id: Any = None
    tenant_id: Any = None


class _Inline(msgspec.Struct, frozen=True, rename="camel"):
    """An assistant that was sent with the call, or what overrides a saved one."""

    metadata: msgspec.Raw = ABSENT
    max_duration_seconds: Any = None


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
    workflow_id: str | None = None
    phone_number_id: str | None = None
    metadata: msgspec.Raw = ABSENT
    assistant: msgspec.Raw = ABSENT
    assistant_overrides: msgspec.Raw = ABSENT
    started_at: Instant | None = None
    ended_at: Instant | None = None
    cost: Decimal | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended. `endedAt` is absent while a call runs (facts: Vapi's call object), so one that has it
        is over, also one that was forwarded, or that Vapi was asked to forget, and cost what it cost."""
        return self.status == "ended" or self.ended_at is not None

    @property
    def tenant(self) -> str | None:
        """`EndedCall.metadata`."""
        return _tenant(self.metadata, self.assistant_overrides, self.assistant)

    @property
    def max_duration_seconds(self) -> int | None:
        """`EndedCall.max_duration_seconds`."""
        return _max_duration(self.assistant_overrides, self.assistant)

    def ended_call(self) -> EndedCall:
        """What the books take of it."""
        return EndedCall(
            id=self.id,
            created_at=self.created_at,
            assistant_id=self.assistant_id,
            squad_id=self.squad_id,
            workflow_id=self.workflow_id,
            phone_number_id=self.phone_number_id,
            metadata=self.tenant,
            call_type=self.type,
            ended_reason=self.ended_reason,
            started_at=self.started_at,
            ended_at=self.ended_at,
            provider_cost_micros=None if self.cost is None else micros_from_decimal(self.cost),
            max_duration_seconds=self.max_duration_seconds,
        )


def _tenant(metadata: msgspec.Raw, *inline: msgspec.Raw) -> str | None:
    """The call's own metadata goes before what came with its assistant; of another form, it says nothing."""
    for raw in (metadata, *(part.metadata for part in map(_read_inline, inline) if part)):
        found = _try(_metadata, raw)
        for key in TENANT_KEYS if found else ():
            said = getattr(found, key)
            if isinstance(said, int) and not isinstance(said, bool):
                said = str(said)
            if isinstance(said, str) and said and "\x00" not in said:
                return f"{key}={said}"[:LONGEST_ID]
    return None


def _max_duration(*inline: msgspec.Raw) -> int | None:
    """Of the first that says it; more than Vapi allows says nothing."""
    for part in map(_read_inline, inline):
        said = part.max_duration_seconds if part else None
        if isinstance(said, int | float) and 1 <= said <= LONGEST_CALL_SECONDS:
            return int(said)
    return None


def _read_inline(raw: msgspec.Raw) -> _Inline | None:
    return _try(_inline, raw)


def _try(decoder: msgspec.json.Decoder[T | None], raw: msgspec.Raw) -> T | None:
    """What is not the reseller's own, and of another form than documented, is no reason to leave a call unbilled."""
    try:
        return decode(decoder, raw) if raw else None
    except UNREADABLE:
        return None


class _Reference(msgspec.Struct, frozen=True):
    id: str | None = None


class _Speaker(_Reference, frozen=True):
    metadata: msgspec.Raw = ABSENT


class _CallAsCreated(msgspec.Struct, frozen=True, rename="camel"):
    """`message.call`: the call when it began. Its status, times and cost are stale, so they are not even read."""

    id: str | None = None
    created_at: Instant | None = None
    type: str | None = None
    assistant_id: str | None = None
    squad_id: str | None = None
    workflow_id: str | None = None
    phone_number_id: str | None = None
    metadata: msgspec.Raw = ABSENT
    assistant: msgspec.Raw = ABSENT
    assistant_overrides: msgspec.Raw = ABSENT


class ServerMessage(msgspec.Struct, frozen=True, rename="camel"):
    """`message` of a webhook; times and money of an end-of-call report stand here."""

    type: str | None = None
    status: str | None = None
    ended_reason: str | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    cost: Decimal | None = None
    call: _CallAsCreated | None = None
    assistant: _Speaker | None = None
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
_metadata = msgspec.json.Decoder(_Metadata | None)
_inline = msgspec.json.Decoder(_Inline | None)
_page = msgspec.json.Decoder(list[msgspec.Raw])
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_part_decoders = {part.encode_name: msgspec.json.Decoder(part.type) for part in msgspec.structs.fields(ListedCall)}


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

    `message.assistant` is whoever spoke. It tells whose the call is only if the call names neither squad, workflow
    nor phone number: else Vapi's list shows these alone (facts: Vapi's call object; a squad's call, or one that was
    resolved by assistant-request, has no `assistantId`), and the payer would depend on whether the report arrived.
    For the same reason the metadata of a saved assistant, which the list does not show, says nothing.

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
    phone_number_id = call.phone_number_id or (message.phone_number.id if message.phone_number else None)
    named = call.squad_id or call.workflow_id or phone_number_id
    spoke = message.assistant.id if message.assistant and not named else None
    transient = message.assistant and not (message.assistant.id or call.assistant_id)
    said = message.assistant.metadata if message.assistant and transient else ABSENT
    return EndedCall(
        id=call.id,
        created_at=created_at,
        assistant_id=call.assistant_id or spoke,
        squad_id=call.squad_id,
        workflow_id=call.workflow_id,
        phone_number_id=phone_number_id,
        metadata=_tenant(call.metadata, call.assistant_overrides, call.assistant) or _tenant(said),
        call_type=call.type,
        ended_reason=message.ended_reason,
        started_at=started_at,
        ended_at=ended_at,
        provider_cost_micros=_readable_cost(message.cost),
        max_duration_seconds=_max_duration(call.assistant_overrides, call.assistant),
        problem=_problem_of_cost(message.cost),
    )


class UnreadableRow(msgspec.Struct, frozen=True):
    """A row of the list that could not be read, for a finding."""

    call_id: str | None
    problem: str


class OddRow(msgspec.Struct, frozen=True):
    """A row of which a part could not be read, and what: the call is held."""

    call: ListedCall
    problem: str


def read_page(body: bytes) -> list[ListedCall | OddRow | UnreadableRow]:
    """The rows of one answer of `GET /call`, a bare array; a broken row does not spoil the others.

    Raises:
        msgspec.DecodeError: the answer is no JSON array at all.
    """
    return [_read_row(row) for row in decode(_page, body)]


def _read_row(row: msgspec.Raw) -> ListedCall | OddRow | UnreadableRow:
    try:
        call, problem = decode(_listed_call, row), None
    except UNREADABLE as error:
        problem = str(error)
        try:
            call = _what_is_readable(row)
        except UNREADABLE:
            return UnreadableRow(_id_of(row), problem)
    bad = [name for name in call.__struct_fields__ if not _is_storable(getattr(call, name))]
    if not call.id or {"id", "created_at", "updated_at"} & set(bad):
        return UnreadableRow(call.id[:LONGEST_ID], "it has no id, or an id or times that cannot be stored")
    if bad:
        problem = problem or f"its {bad[0]} cannot be stored"
        call = msgspec.structs.replace(call, **dict.fromkeys(bad))
    if unbelievable := _problem_of_cost(call.cost):
        call, problem = msgspec.structs.replace(call, cost=None), problem or unbelievable
    if problem is None:
        return call
    return OddRow(call, problem) if call.is_over else UnreadableRow(call.id, problem)


def _what_is_readable(row: msgspec.Raw) -> ListedCall:
    """A call without those of its parts that are of another form than documented; its id and clocks must be there.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: not even these.
    """
    parts = decode(_parts, row)
    for name in msgspec.structs.fields(ListedCall):
        if name.encode_name in parts and not name.required:
            try:
                decode(_part_decoders[name.encode_name], parts[name.encode_name])
            except UNREADABLE:
                del parts[name.encode_name]
    return decode(_listed_call, msgspec.json.encode(parts))


def _problem_of_cost(cost: Decimal | None) -> str | None:
    """Its cost, which is that of nothing; the books could not hold it either."""
    return None if _readable_cost(cost) is not None or cost is None else "its cost is no amount of money"


def _readable_cost(cost: Decimal | None) -> int | None:
    try:
        return None if cost is None else micros_from_decimal(cost)
    except ValueError:
        return None


def _is_storable(value: object) -> bool:
    """Whether Postgres can hold it: no NUL and no very long text, no time that leaves the calendar in UTC."""
    if isinstance(value, str):
        return "\x00" not in value and len(value) <= LONGEST_ID
    try:
        return not isinstance(value, datetime) or bool(value.astimezone(UTC))
    except OverflowError:
        return False


def _id_of(row: msgspec.Raw) -> str | None:
    try:
        return (decode(_reference, row).id or "")[:LONGEST_ID] or None
    except UNREADABLE:
        return None
