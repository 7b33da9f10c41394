"""The past is reconciled day by day; what is done already is skipped, and Slack hears nothing of it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun

from calltally.sandbox.calls import Route
from calltally.sandbox.faults import json_fault
from calltally.sandbox.traffic import Traffic
from flows.backfill_calls import backfill_calls
from flows.reconcile_recent_calls import reconcile_recent_calls
from tasks.progress import listeners

from .stage import Stage, in_loop, run

pytestmark = pytest.mark.slow

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def place(stage: Stage, count: int, days_ago: int) -> set[str]:
    """Calls of one day of the past."""
    start = TODAY - timedelta(days=days_ago)
    routes = (Route(assistant_id="asst-acme"),)
    traffic = Traffic(count, routes, start + timedelta(hours=6), start + timedelta(hours=18), never_connected_share=0)
    return {call.id for call in stage.sandbox.vapi.place_calls(traffic)}


def test_backfill_bills_each_day_once_and_goes_on_where_it_broke_off(stage: Stage) -> None:
    """Days that were compared are skipped, unless they are asked for again."""
    calls = {days_ago: place(stage, 3, days_ago) for days_ago in (5, 4, 3)}
    window = {"window_from": TODAY - timedelta(days=5), "window_to": TODAY - timedelta(days=2)}
    first_day = run(backfill_calls, window_from=window["window_from"], window_to=TODAY - timedelta(days=4))
    stage.sandbox.vapi.faults.add(json_fault(400, {"message": "limit must be an integer"}, path_prefix="/call"))
    broken = run(backfill_calls, **window)
    after_breaking = stage.charged()
    rest = run(backfill_calls, **window)
    again = run(backfill_calls, **window, again=True)

    assert len(first_day.result) == 1
    assert broken.state.is_failed()
    assert after_breaking == calls[5]
    assert len(rest.result) == 2
    assert len(again.result) == 3
    assert stage.charged() == set().union(*calls.values())
    assert {row["kind"] for row in stage.books.rows("SELECT kind FROM reconciliation_runs")} == {"backfill"}
    assert stage.sandbox.slack.messages == []
    assert stage.books.broken() == []


def test_backfill_of_all_that_the_provider_remembers(stage: Stage) -> None:
    """Without a window it begins where Vapi's memory does, and does not ask for older calls."""
    old, remembered = place(stage, 2, 20), place(stage, 2, 13)
    done = run(backfill_calls)

    assert done.state.is_completed()
    assert stage.charged() == remembered
    assert not stage.charged() & old


def test_backfill_from_before_the_provider_s_memory_does_the_rest_day_by_day(stage: Stage) -> None:
    """Known calls that it has forgotten, or may be about to, are no phantoms; progress counts the days."""
    remembered, now = place(stage, 2, 12), datetime.now(UTC)
    ages = {"forgotten": timedelta(days=14, hours=-0.5), "gone": timedelta(days=13)}
    for call_id, age in ages.items():
        created_at = (now - age).isoformat()
        stage.books.record({"id": call_id, "assistant_id": "asst-acme", "created_at": created_at}, reconciled=False)
    told: list[str] = []
    listeners.append(lambda _share, words: told.append(words))
    done = run(backfill_calls, window_from=TODAY - timedelta(days=30), window_to=TODAY - timedelta(days=11))
    listeners.pop()
    phantoms = stage.books.rows("SELECT DISTINCT call_id FROM findings WHERE kind = 'phantom'")

    assert done.state.is_completed()
    assert remembered <= stage.charged()
    assert phantoms == [{"call_id": "gone"}]
    assert f"day {len(done.result)} of {len(done.result)}: done" in told


def test_light_pass_bills_the_last_hours(stage: Stage) -> None:
    """It leaves what is older to the night."""
    now = datetime.now(UTC)
    routes = (Route(assistant_id="asst-acme"),)
    recent, older = (
        {
            call.id
            for call in stage.sandbox.vapi.place_calls(
                Traffic(2, routes, now - begin, now - begin + timedelta(minutes=1), never_connected_share=0.0)
            )
        }
        for begin in (timedelta(hours=1), timedelta(hours=30))
    )
    done = run(reconcile_recent_calls, hours=3)

    assert done.state.is_completed()
    assert stage.charged() == recent
    assert not stage.charged() & older
    assert stage.books.value("SELECT kind FROM reconciliation_runs") == "recent"


@pytest.mark.parametrize(("flow", "parameters"), [(reconcile_recent_calls, {}), (backfill_calls, {"again": True})])
def test_runs_within_a_run_carry_its_tags(stage: Stage, flow: Any, parameters: dict[str, Any]) -> None:
    """So that they are found when their process is gone; but nobody has scheduled them."""
    if flow is backfill_calls:
        parameters = {**parameters, "window_from": TODAY - timedelta(days=2), "window_to": TODAY - timedelta(days=1)}
    done = run(flow, **parameters)
    within = in_loop(runs_within(done.id))

    assert done.state.is_completed()
    assert [sorted(each.tags) for each in within] == [["calltally", "night"]]


async def runs_within(run_id: UUID) -> list[FlowRun]:
    """The runs that a run has started."""
    async with get_client() as client:
        return await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))
        )
