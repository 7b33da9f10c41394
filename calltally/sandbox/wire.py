"""What goes over the wire: JSON with exact decimals, and times as Vapi writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

JsonObject = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


def encode_json(value: object) -> bytes:
    """Return compact JSON; a Decimal becomes a JSON number with exactly its digits."""
    return _ENCODER.encode(value)


def to_ms(moment: datetime) -> int:
    """Return whole milliseconds since 1970, rounding down; a naive time is refused."""
    return to_us(moment) // 1000


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970; a naive time is refused."""
    if moment.tzinfo is None:
        raise ValueError(f"a time without a time zone is ambiguous: {moment!r}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_ms(ms: int) -> datetime:
    """Return the UTC time of so many milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def iso(ms: int) -> str:
    """Return a time as Vapi writes it: UTC, three decimals, `Z`."""
    return from_ms(ms).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
