"""What a call costs, reckoned from its times and its price: a second hand beside `sql/functions/a_arithmetic.sql`.

The books are written by SQL alone; this is for showing each step, and for noticing if the two ever disagree.
"""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from billing.money import MICROS

Row = dict[str, Any]


def duration_ms(started_at: datetime | None, ended_at: datetime | None) -> int:
    """By the provider's clock, rounded half up; 0 if it never connected or has not ended."""
    if started_at is None or ended_at is None:
        return 0
    passed = ended_at - started_at
    micros = Decimal((passed.days * 86_400 + passed.seconds) * MICROS + passed.microseconds)
    return max(0, int((micros / 1000).quantize(Decimal(1), ROUND_HALF_UP)))


def billed_seconds(milliseconds: int, increment: int, minimum: int, free: int) -> int:
    """What exceeds the free seconds, in whole increments, no less than the minimum; 0 if nothing exceeds them."""
    beyond = milliseconds - free * 1000
    return max(minimum, -(-beyond // (increment * 1000)) * increment) if beyond > 0 else 0


def amount_micros(seconds: int, per_minute_micros: int) -> int:
    """Rounded once, half up."""
    return int((Decimal(seconds * per_minute_micros) / 60).quantize(Decimal(1), ROUND_HALF_UP))


def reckon(basis: Row, call: Row | None) -> list[Row]:
    """From the two times to the amount, a step a row; empty for a charge by amount alone."""
    if call is None or (basis["per_minute_micros"] is None and call["duration_ms"] != 0):
        return []
    milliseconds = duration_ms(call["started_at"], call["ended_at"])
    steps = [{"step": "duration", "how": "ended - started", "value": milliseconds, "unit": "ms"}]
    if basis["per_minute_micros"] is None:
        return [*steps, {"step": "amount", "how": "it never connected", "value": 0, "unit": "micros"}]
    increment, minimum, free = (basis[f"{name}_seconds"] for name in ("increment", "minimum", "free"))
    beyond = max(0, milliseconds - free * 1000)
    increments = -(-beyond // (increment * 1000))
    seconds = billed_seconds(milliseconds, increment, minimum, free)
    per_minute = basis["per_minute_micros"]
    rounded = (
        "nothing beyond the free seconds" if not beyond else f"{increments} x {increment} s, at least {minimum} s"
    )
    return [
        *steps,
        {"step": "beyond free", "how": f"{milliseconds} ms - {free} s free", "value": beyond, "unit": "ms"},
        {"step": "increments", "how": f"of {increment} s, rounded up", "value": increments, "unit": ""},
        {"step": "billed", "how": rounded, "value": seconds, "unit": "s"},
        {
            "step": "amount",
            "how": f"{seconds} s x {per_minute} / 60, rounded half up",
            "value": amount_micros(seconds, per_minute),
            "unit": "micros",
        },
    ]
