"""What a generated call looks like, compared with the documented arithmetic and shape."""

from __future__ import annotations

import json
import statistics
import uuid
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from calltally.sandbox.calls import Route
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.wire import to_ms

from .conftest import DAY, NEXT_DAY, placing

FOUR = Decimal("0.0001")


def listed(count: int, **traffic: Any) -> list[dict[str, Any]]:
    """Return calls as a client reads them, decimals exact."""
    world = VapiWorld(seed=3)
    calls = placing(world)(count, **traffic)
    bodies = [world.body(call.id) or b"" for call in calls]
    return [json.loads(body, parse_float=Decimal) for body in bodies]


def test_cost_of_every_connected_call_is_the_rounded_sum_of_its_items() -> None:
    """`cost`, `costBreakdown.total` and the items agree to four decimals."""
    for row in listed(200, never_connected_share=0.0):
        items = sum((Decimal(item["cost"]) for item in row["costs"]), Decimal(0))

        assert row["cost"] == row["costBreakdown"]["total"] == items.quantize(FOUR, ROUND_HALF_UP)


def test_fee_of_vapi_is_five_cents_per_minute_with_four_decimals() -> None:
    """The fee follows from `endedAt - startedAt`, rounded half up."""
    world = VapiWorld(seed=3)
    for call in placing(world)(100, never_connected_share=0.0):
        row = json.loads(world.body(call.id) or b"", parse_float=Decimal)
        fee = next(item for item in row["costs"] if item["type"] == "vapi")
        minutes = (Decimal(call.duration_ms or 0) / 60_000).quantize(FOUR, ROUND_HALF_UP)

        assert (minutes, minutes * Decimal("0.05")) == (fee["minutes"], fee["cost"])


def test_never_connected_call_has_neither_times_nor_costs() -> None:
    """Absent values are absent keys, and `cost` is 0."""
    rows = listed(50, never_connected_share=0.2)
    silent = [row for row in rows if "startedAt" not in row]

    assert len(silent) == 10
    for row in silent:
        assert {"endedAt", "costs", "costBreakdown", "artifact"}.isdisjoint(row)
        assert (row["status"], row["cost"]) == ("ended", 0)
        assert None not in row.values()


def test_running_calls_are_the_newest_and_have_no_end() -> None:
    """Calls in progress have been answered and cost nothing yet."""
    rows = listed(30, in_progress=4)
    running = [row for row in rows if row["status"] == "in-progress"]

    assert rows[-4:] == running
    assert all("startedAt" in row and "endedAt" not in row and row["cost"] == 0 for row in running)


def test_id_carries_the_creation_time() -> None:
    """Ids are UUIDv7 whose first 48 bits are `createdAt` in milliseconds."""
    for call in placing(VapiWorld())(50):
        assert (7, call.created_at_ms) == (uuid.UUID(call.id).version, uuid.UUID(call.id).int >> 80)


def test_generation_with_the_same_seed_repeats_and_with_another_differs() -> None:
    """Traffic is a function of its seed."""
    first, again, other = (placing(VapiWorld(seed=seed))(40) for seed in (5, 5, 6))

    assert first == again
    assert first != other


def test_generation_keeps_window_median_and_ties() -> None:
    """Creation lies in the window, the median lasts about 25 s, and ties are at least as many as asked."""
    calls = placing(VapiWorld())(2_000, tie_share=0.05)
    durations = [call.duration_ms for call in calls if call.duration_ms is not None]
    moments = [call.created_at_ms for call in calls]

    assert to_ms(DAY) <= min(moments) <= max(moments) < to_ms(NEXT_DAY)
    assert 22_000 < statistics.median(durations) < 28_000
    assert any(duration % 1000 for duration in durations)
    assert len(moments) - len(set(moments)) >= 95


def test_inline_and_squad_calls_have_no_assistant_id() -> None:
    """An inline assistant is described in the call, a squad is named."""
    inline = listed(1, routes=(Route(phone_number_id="line"),), never_connected_share=0.0)[0]
    squad = listed(1, routes=(Route(squad_id="squad"),), never_connected_share=0.0)[0]

    assert "assistantId" not in inline
    assert "id" not in inline["assistant"]
    assert (squad["squadId"], "assistantId" in squad) == ("squad", False)


def test_web_call_has_no_customer_and_no_phone() -> None:
    """Web calls come through Daily."""
    row = listed(1, routes=(Route(assistant_id="a", call_type="webCall"),), never_connected_share=0.0)[0]

    assert {"customer", "phoneNumberId", "phoneCallProvider"}.isdisjoint(row)
    assert row["transport"]["provider"] == "daily"


@pytest.mark.parametrize(
    ("detail", "unanswered", "size_bytes"),
    [("slim", 0.0, 2_600), ("small", 0.0, 6_500), ("full", 0.12, 41_000)],
)
def test_size_of_a_call_follows_its_detail(detail: str, unanswered: float, size_bytes: int) -> None:
    """Mean sizes are those recorded: 2.6 KB of billing fields if it connected, 41 KB in full of any, within 4 %."""
    world = VapiWorld()
    route = Route(assistant_id=str(uuid.UUID(int=7)))
    calls = placing(world)(400, routes=(route,), detail=detail, never_connected_share=unanswered)
    mean = statistics.mean(len(world.body(call.id) or b"") for call in calls)

    assert mean == pytest.approx(size_bytes, rel=0.04)


def test_finished_call_gets_times_and_costs() -> None:
    """Ending a running call settles it; ending it twice is refused."""
    world = VapiWorld()
    call = placing(world)(1, in_progress=1)[0]

    ended = world.finish_call(call.id, duration_ms=12_345)

    assert (ended.duration_ms, world.shown(call.id)["status"]) == (12_345, "ended")
    assert world.shown(call.id)["cost"] > 0
    with pytest.raises(ValueError, match="has ended already"):
        world.finish_call(call.id, duration_ms=1)


def test_corrected_duration_alone_changes_the_cost() -> None:
    """A shorter call costs less, and its items still add up."""
    world = VapiWorld()
    call = placing(world)(1, never_connected_share=0.0)[0]
    before = world.shown(call.id)["cost"]

    world.correct_call(call.id, at=NEXT_DAY + timedelta(days=1), duration_ms=1_000)

    after = world.shown(call.id)
    assert after["cost"] < before
    assert after["cost"] == pytest.approx(sum(item["cost"] for item in after["costs"]), abs=0.00005)


def test_unanswered_call_over_sip_may_have_times_and_cost() -> None:
    """Billability cannot be told from the reason: some unanswered SIP calls last 30 s and cost money."""
    rows = listed(400, routes=(Route(assistant_id="a", transport="vapi.sip"),), never_connected_share=0.1)

    rung_out = [row for row in rows if row["endedReason"] == "customer-did-not-answer"]
    assert rung_out
    assert all("startedAt" in row and row["cost"] > 0 for row in rung_out)
    assert sum(1 for row in rows if "startedAt" not in row) == 40


def test_web_call_never_connected_lacks_the_microphone() -> None:
    """Reasons of the telephone network do not happen in a browser."""
    rows = listed(20, routes=(Route(assistant_id="a", call_type="webCall"),), never_connected_share=1.0)

    assert {row["endedReason"] for row in rows} == {"customer-did-not-give-microphone-permission"}
