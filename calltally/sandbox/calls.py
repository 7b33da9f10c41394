"""One phone call as the sandbox remembers it; how Vapi shows it is left to `call_json`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Literal

CallType = Literal["inboundPhoneCall", "outboundPhoneCall", "webCall"]
CallStatus = Literal["queued", "ringing", "in-progress", "ended"]
Transport = Literal["twilio", "vapi.sip"]
Detail = Literal["slim", "small", "full"]

NO_EXTRA_COST = Decimal(0)


@dataclass(frozen=True, slots=True)
class Route:
    """How calls reach an assistant, which is all that a call tells about the tenant behind it.

    Without `assistant_id` and `squad_id` the call carries its assistant inline. `tenant_id` travels as
    metadata and variable value. Web calls have neither phone number nor customer, and `transport` says
    nothing about them: they come through Daily.
    """

    assistant_id: str | None = None
    squad_id: str | None = None
    phone_number_id: str | None = None
    tenant_id: str | None = None
    call_type: CallType = "inboundPhoneCall"
    transport: Transport = "twilio"
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a web call with a phone number: Vapi has none."""
        if self.call_type == "webCall" and self.phone_number_id is not None:
            raise ValueError("a web call has no phone number")

    @property
    def is_inline(self) -> bool:
        """Whether the assistant is described in the call itself instead of saved under an id."""
        return self.assistant_id is None and self.squad_id is None


@dataclass(frozen=True, slots=True)
class Call:
    """A call; times are milliseconds since 1970, UTC.

    `started_at_ms` stays None when nobody was ever connected, even once the call has ended.
    `extra_cost` (USD) is what a later correction added to the price computed from the duration.
    """

    id: str
    route: Route
    created_at_ms: int
    updated_at_ms: int
    status: CallStatus
    customer_number: str
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    ended_reason: str | None = None
    extra_cost: Decimal = NO_EXTRA_COST
    detail: Detail = "small"

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds between start and end, None unless the call has both."""
        if self.started_at_ms is None or self.ended_at_ms is None:
            return None
        return self.ended_at_ms - self.started_at_ms


def new_call_id(created_at_ms: int, random: Random) -> str:
    """Return a UUIDv7: Vapi's ids carry `createdAt` in their first 48 bits."""
    version_and_variant = (7 << 76) | (2 << 62)
    number = created_at_ms << 80 | version_and_variant | random.getrandbits(12) << 64 | random.getrandbits(62)
    return str(uuid.UUID(int=number))
