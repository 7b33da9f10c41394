"""`POST /analytics` as a control total over the list."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import httpx
import pytest

from calltally.sandbox.calls import Route
from calltally.sandbox.wire import iso, to_ms

from .conftest import DAY, NEXT_DAY, PlaceCalls

ROUTES = (Route(assistant_id="first"), Route(assistant_id="second"), Route(squad_id="squad"))


def query(**changes: Any) -> dict[str, Any]:
    """Return a request for the totals of one day."""
    single: dict[str, Any] = {
        "table": "call",
        "name": "totals",
        "timeRange": {"start": iso(to_ms(DAY)), "end": iso(to_ms(NEXT_DAY)), "timezone": "UTC"},
        "operations": [
            {"operation": "count", "column": "id", "alias": "calls"},
            {"operation": "sum", "column": "cost", "alias": "cost"},
            {"operation": "sum", "column": "duration", "alias": "seconds"},
        ],
    }
    return {"queries": [{**single, **changes}]}


def test_totals_by_assistant_equal_the_list(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """Counts and costs per assistant are those of the listed calls; other days do not count."""
    place_calls(60, routes=ROUTES)
    place_calls(10, routes=ROUTES, start=NEXT_DAY, end=NEXT_DAY + timedelta(days=1))
    counted: dict[str | None, int] = defaultdict(int)
    spent: dict[str | None, float] = defaultdict(float)
    for row in vapi.get("/call", params={"createdAtLt": iso(to_ms(NEXT_DAY))}).json():
        counted[row.get("assistantId")] += 1
        spent[row.get("assistantId")] += row["cost"]

    (answer,) = vapi.post("/analytics", json=query(groupBy=["assistantId"])).json()

    assert {"name", "timeRange", "result"} == set(answer)
    assert counted == {row["assistantId"]: row["calls"] for row in answer["result"]}
    assert {row["assistantId"]: row["cost"] for row in answer["result"]} == pytest.approx(spent)


def test_totals_by_day_have_a_date(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """With a step there is one row per bucket, dated by its start."""
    place_calls(10)
    place_calls(5, start=NEXT_DAY, end=NEXT_DAY + timedelta(days=1))
    time_range = {"start": iso(to_ms(DAY)), "end": iso(to_ms(NEXT_DAY + timedelta(days=1))), "step": "day"}

    (answer,) = vapi.post("/analytics", json=query(timeRange=time_range)).json()

    dated = [(row["date"], row["calls"]) for row in answer["result"]]
    assert dated == [(DAY.isoformat(), 10), (NEXT_DAY.isoformat(), 5)]


def test_extremes_and_mean_agree_with_the_durations(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """`min`, `max` and `avg` are in seconds, and their names follow from operation and column."""
    calls = place_calls(20, never_connected_share=0.0)
    seconds = [(call.duration_ms or 0) / 1000 for call in calls]
    operations = [{"operation": name, "column": "duration"} for name in ("min", "max", "avg")]

    (answer,) = vapi.post("/analytics", json=query(operations=operations)).json()

    expected = {"minDuration": min(seconds), "maxDuration": max(seconds), "avgDuration": sum(seconds) / 20}
    assert answer["result"] == [pytest.approx(expected)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"queries": ["calls"]},
        query(table="subscription"),
        query(groupBy=["tenant"]),
        query(operations=[{"operation": "median", "column": "cost"}]),
        query(operations=[{"operation": "sum", "column": "profit"}]),
        query(timeRange={"start": "yesterday"}),
        query(timeRange={"step": "fortnight"}),
    ],
)
def test_unanswerable_query_is_refused(vapi: httpx.Client, place_calls: PlaceCalls, body: dict[str, Any]) -> None:
    """The error has Vapi's shape with an array of messages."""
    place_calls(3)

    response = vapi.post("/analytics", json=body)

    assert response.status_code == 400
    assert isinstance(response.json()["message"], list)
