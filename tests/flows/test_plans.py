"""A rehearsal is a plan; carried out, it books exactly what it showed, or nothing."""

import pytest

from billing import runs
from billing.errors import PermanentError
from billing.plans import PlanOutdated, UnknownPlan
from calltally.sandbox.faults import json_fault
from flows.reconcile_calls import reconcile_calls

from .stage import Run, Stage, artifacts, run


def transfers(stage: Stage) -> list[tuple[str, int]]:
    """What is in the ledger, as plans show it."""
    rows = stage.books.rows("SELECT idempotency_key, -amount_micros AS amount FROM transfers WHERE kind = 'call'")
    return sorted((row["idempotency_key"], row["amount"]) for row in rows)


def planned(stage: Stage, rehearsal: Run) -> list[tuple[str, int]]:
    """The transfers that a rehearsal has stored."""
    plan = stage.books.value("SELECT plan FROM reconciliation_runs WHERE id = CAST(:id AS uuid)", id=rehearsal.result)
    return sorted((row["idempotency_key"], row["amount_micros"]) for row in plan["transfers"])


def test_plan_books_exactly_what_the_rehearsal_showed_and_only_once(stage: Stage) -> None:
    """Calls that come to the list in between belong to another window; a second time there is nothing to do."""
    stage.place_calls(4)
    rehearsal = run(reconcile_calls, dry_run=True)
    shown = planned(stage, rehearsal)
    before = transfers(stage)
    done = run(reconcile_calls, plan=rehearsal.result)
    again = run(reconcile_calls, plan=rehearsal.result)

    assert before == []
    assert len(shown) == 4
    assert transfers(stage) == shown
    assert done.name.startswith("carry out plan ")
    assert again.state.is_failed()
    assert isinstance(again.result, UnknownPlan)
    assert stage.books.broken() == []


@pytest.mark.slow
def test_plan_is_refused_when_a_webhook_came_in_between(stage: Stage) -> None:
    """The world has moved: nothing is booked, and the message says how to go on."""
    calls = stage.place_calls(3)
    rehearsal = run(reconcile_calls, dry_run=True)
    stage.books.record(
        {"id": calls[0].id, "assistant_id": "asst-acme", "created_at": "2026-11-01T00:00:00Z"}, reconciled=False
    )
    done = run(reconcile_calls, plan=rehearsal.result)

    assert done.state.is_failed()
    assert isinstance(done.result, PlanOutdated)
    assert "--dry-run" in str(done.result)
    assert transfers(stage) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", ["corrected", "came late"])
def test_plan_is_refused_when_the_provider_s_list_has_changed(stage: Stage, change: str) -> None:
    """A call that was corrected, or came to the window, after the rehearsal."""
    call = stage.place_calls(3)[0]
    rehearsal = run(reconcile_calls, dry_run=True)
    if change == "corrected":
        stage.sandbox.vapi.correct_call(call.id, at=stage.day[1], duration_ms=(call.duration_ms or 0) + 60_000)
    else:
        stage.place_calls(1)
    done = run(reconcile_calls, plan=rehearsal.result)

    assert isinstance(done.result, PermanentError)
    assert transfers(stage) == []


@pytest.mark.slow
def test_plan_whose_run_failed_after_it_was_booked_is_finished_by_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The books keep what was booked; the next run tells the rest, without the provider, and never books again."""
    stage.place_calls(4)
    rehearsal = run(reconcile_calls, dry_run=True)
    with monkeypatch.context() as broken:
        broken.setattr(runs, "finish_run", fail)
        first = run(reconcile_calls, plan=rehearsal.result)
    booked = transfers(stage)
    stage.sandbox.vapi.faults.add(json_fault(401, {"message": "Invalid Key"}), times=99)
    second = run(reconcile_calls, plan=rehearsal.result)
    third = run(reconcile_calls, plan=rehearsal.result)
    night = stage.books.rows("SELECT * FROM reconciliation_runs WHERE id = CAST(:id AS uuid)", id=second.result)[0]

    assert (first.state.is_failed(), second.state.is_completed()) == (True, True)
    assert booked == transfers(stage) == planned(stage, rehearsal)
    assert (night["recovered_calls"], night["alert"]) == (4, "sent")
    assert "reconciliation-summary" in artifacts(second.id)
    assert isinstance(third.result, UnknownPlan)
    assert stage.books.broken() == []


def fail(*_: object) -> None:
    """What a process meets that dies."""
    raise ConnectionResetError("the process died here")
