"""Seeded generation of calls: the same traffic and seed always make the same calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random

from calltally.sandbox.call_json import START_ERROR_REASON
from calltally.sandbox.calls import Call, Detail, Route, new_call_id
from calltally.sandbox.wire import to_ms

# Recorded calls settled 3.4 to 7.0 s after their end, with a median of 5.0 s.
SETTLING_MS = (3_400, 7_000)

_MS_PER_SECOND = 1000
_RINGING_MS = (400, 6_000)
_SHORTEST_MS = 1_000
_ENDED_REASONS = (
    "customer-ended-call",
    "assistant-ended-call",
    "silence-timed-out",
    "assistant-forwarded-call",
)
# How long after its creation Vapi closes a call that nobody answered, in ms, by reason.
_NEVER_CONNECTED_BY_PHONE_MS = {
    "twilio": {
        "customer-busy": 4_200,
        "customer-did-not-answer": 300_356,
        START_ERROR_REASON: 107,
    },
    "vapi.sip": {
        "customer-busy": 4_200,
        "call.in-progress.error-providerfault-outbound-sip-503-service-unavailable": 42_880,
        START_ERROR_REASON: 107,
    },
}
_NEVER_CONNECTED_IN_BROWSER_MS = {"customer-did-not-give-microphone-permission": 1_900}
# Over `vapi.sip` an unanswered call was recorded with a start, 30 s and a cost.
_RUNG_OUT_REASON = "customer-did-not-answer"
_RUNG_OUT_MS = 30_000
_RUNG_OUT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many calls, over which routes, created in the half-open window [start, end).

    Shares are exact: they are multiplied by `count`, rounded, and that many calls are drawn.
    `tie_share` of the calls get the creation time of another call, as bulk dialling does.
    The newest `in_progress` calls have been answered and not ended.
    """

    count: int
    routes: tuple[Route, ...]
    start: datetime
    end: datetime
    median_seconds: float = 25.0
    spread: float = 0.9
    longest_seconds: float = 1_800.0
    never_connected_share: float = 0.12
    tie_share: float = 0.02
    in_progress: int = 0
    detail: Detail = "small"

    def __post_init__(self) -> None:
        """Refuse traffic that cannot be placed."""
        if not self.routes:
            raise ValueError("traffic needs at least one route")
        if to_ms(self.start) >= to_ms(self.end):
            raise ValueError("traffic needs a window of at least one millisecond")


def generate_calls(traffic: Traffic, seed: int | str) -> Iterator[Call]:
    """Yield the calls of this traffic, oldest first."""
    random = Random(seed)  # noqa: S311  # invented data, and it must repeat
    creation_times = _creation_times(traffic, random)
    weights = [route.weight for route in traffic.routes]
    routes = random.choices(traffic.routes, weights, k=traffic.count)
    unanswered = set(_drawn(traffic.count, traffic.never_connected_share, random))
    first_running = traffic.count - traffic.in_progress
    for position, (created_at_ms, route) in enumerate(zip(creation_times, routes, strict=True)):
        call = Call(
            id=new_call_id(created_at_ms, random),
            route=route,
            created_at_ms=created_at_ms,
            updated_at_ms=created_at_ms,
            status="queued",
            customer_number=f"+1555{random.randrange(10**7):07d}",
            detail=traffic.detail,
        )
        if position >= first_running:
            yield _answered(call, random)
        elif position in unanswered:
            yield _never_connected(call, random)
        else:
            yield _connected(call, _duration_ms(traffic, random), random)


def finished(call: Call, duration_ms: int, random: Random) -> Call:
    """Return a running call as it looks after its end, once the costs are settled."""
    if call.started_at_ms is None:
        raise ValueError(f"call {call.id} was never answered")
    ended_at_ms = call.started_at_ms + duration_ms
    return replace(
        call,
        status="ended",
        ended_at_ms=ended_at_ms,
        ended_reason=random.choice(_ENDED_REASONS),
        updated_at_ms=ended_at_ms + random.randint(*SETTLING_MS),
    )


def _connected(call: Call, duration_ms: int, random: Random) -> Call:
    is_by_sip = call.route.call_type != "webCall" and call.route.transport == "vapi.sip"
    if is_by_sip and random.random() < _RUNG_OUT_SHARE:
        return replace(finished(_answered(call, random), _RUNG_OUT_MS, random), ended_reason=_RUNG_OUT_REASON)
    return finished(_answered(call, random), duration_ms, random)


def _answered(call: Call, random: Random) -> Call:
    started_at_ms = call.created_at_ms + random.randint(*_RINGING_MS)
    return replace(call, status="in-progress", started_at_ms=started_at_ms, updated_at_ms=started_at_ms)


def _never_connected(call: Call, random: Random) -> Call:
    if call.route.call_type == "webCall":
        closings_ms = _NEVER_CONNECTED_IN_BROWSER_MS
    else:
        closings_ms = _NEVER_CONNECTED_BY_PHONE_MS[call.route.transport]
    reason, closed_after_ms = random.choice(list(closings_ms.items()))
    return replace(
        call,
        status="ended",
        ended_reason=reason,
        updated_at_ms=call.created_at_ms + closed_after_ms,
    )


def _duration_ms(traffic: Traffic, random: Random) -> int:
    seconds = random.lognormvariate(math.log(traffic.median_seconds), traffic.spread)
    return max(_SHORTEST_MS, int(min(seconds, traffic.longest_seconds) * _MS_PER_SECOND))


def _creation_times(traffic: Traffic, random: Random) -> list[int]:
    start_ms, end_ms = to_ms(traffic.start), to_ms(traffic.end)
    times = sorted(random.randrange(start_ms, end_ms) for _ in range(traffic.count))
    for position in _drawn(traffic.count, traffic.tie_share, random):
        times[position] = times[position - 1] if position else times[0]
    return sorted(times)


def _drawn(count: int, share: float, random: Random) -> list[int]:
    return random.sample(range(count), k=round(count * share))
