"""The list is proved complete by the provider's own totals; where they disagree, billing waits or not, as set."""

from collections.abc import Callable
from typing import Any

import pytest

from billing.pace import Patience
from calltally.sandbox.faults import json_fault
from calltally.sandbox.vapi import vapi_fault
from flows import reconcile_calls as flow
from flows.reconcile_calls import reconcile_calls
from tasks import providers
from tasks.retries import RETRIES

from .stage import Stage, run

PARTS = 4
"""Days of the list of a night."""


def totals(calls: int) -> Any:
    """What analytics answers for one part of the list."""
    return [{"name": "control_totals", "result": [{"calls": calls, "cost": calls * 0.1}]}]


def proofs(stage: Stage) -> list[str]:
    """The verdicts of the latest night."""
    parts = stage.books.value("SELECT completeness FROM reconciliation_runs ORDER BY started_at DESC LIMIT 1")
    return [part["verdict"] for part in parts]


def kinds(stage: Stage) -> dict[str, int]:
    """Findings of the latest night by kind."""
    rows = stage.books.rows(
        "SELECT kind, count(*) AS found FROM findings WHERE run_id ="
        " (SELECT id FROM reconciliation_runs ORDER BY started_at DESC LIMIT 1) GROUP BY kind"
    )
    return {row["kind"]: row["found"] for row in rows}


@pytest.mark.slow
def test_calls_of_a_day_with_other_totals_wait_for_the_next_night(stage: Stage) -> None:
    """A list that may be short is a finding; once it agrees, the calls are billed."""
    calls = stage.place_calls(8)
    stage.sandbox.vapi.faults.add(json_fault(201, totals(500), path_prefix="/analytics"), times=PARTS)
    run(reconcile_calls)
    waiting, verdicts, found = stage.charged(), proofs(stage), kinds(stage)
    run(reconcile_calls)
    listed = stage.books.rows("SELECT listed_from FROM reconciliation_runs ORDER BY started_at")

    assert waiting == set()
    assert verdicts == ["incomplete"] * PARTS
    assert found == {"incomplete": PARTS, "missing": 8}
    assert stage.charged() == {call.id for call in calls}
    assert set(proofs(stage)) == {"complete"}
    assert listed[1] == listed[0], "the second one begins where the first one held something back"


@pytest.mark.slow
def test_setting_bills_what_was_listed_all_the_same(stage: Stage, changed: Callable[..., None]) -> None:
    """The finding remains."""
    changed(COMPLETENESS_STOPS_BILLING="false")
    calls = stage.place_calls(3)
    stage.sandbox.vapi.faults.add(json_fault(201, totals(500), path_prefix="/analytics"), times=PARTS)
    run(reconcile_calls)

    assert stage.charged() == {call.id for call in calls}
    assert kinds(stage)["incomplete"] == PARTS


@pytest.mark.slow
def test_provider_without_totals_proves_nothing_and_stops_nothing(stage: Stage) -> None:
    """The list is complete by how it is read; the run says that nobody confirmed it."""
    calls = stage.place_calls(3)
    stage.sandbox.vapi.faults.add(json_fault(403, {"message": "Forbidden"}, path_prefix="/analytics"), times=PARTS)
    run(reconcile_calls)

    assert stage.charged() == {call.id for call in calls}
    assert proofs(stage) == ["unproven"] * PARTS
    assert "incomplete" not in kinds(stage)


@pytest.mark.slow
def test_outage_of_the_totals_alone_stops_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Analytics that fails for ever leaves the list unproven, after the task's own retries; the night bills."""
    monkeypatch.setattr(providers, "TOTALS_PATIENCE", Patience(tries=1))
    monkeypatch.setattr(flow, "provider_totals", providers.provider_totals.with_options(retry_delay_seconds=0))
    stage.sandbox.vapi.faults.add(vapi_fault(500, "Internal server error", path_prefix="/analytics"), times=1_000)
    calls = stage.place_calls(3)
    night = run(reconcile_calls)

    assert night.state.is_completed()
    assert stage.charged() == {call.id for call in calls}
    assert proofs(stage) == ["unproven"] * PARTS
    assert len(stage.sandbox.vapi.faults) == 1_000 - PARTS * (1 + RETRIES)
