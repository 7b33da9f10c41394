"""A rehearsal is a plan; carried out, it books exactly what it showed, or nothing."""

import pytest

from billing.errors import PermanentError
from billing.repair import PlanOutdated
from billing.runs import UnknownPlan
from flows.reconcile_calls import reconcile_calls

from .stage import Run, Stage, run


def transfers(stage: Stage) -> list[tuple[str, int]]:
    """What is in the ledger, as plans show it."""
    rows = stage.books.rows("SELECT idempotency_key, -amount_micros AS amount FROM transfers WHERE kind = 'call'")
    return sorted((row["idempotency_key"], row["amount"]) for row in rows)


def planned(stage: Stage, rehearsal: Run) -> list[tuple[str, int]]:
    """The transfers that a rehearsal has stored."""
    plan = stage.books.value("SELECT plan FROM reconciliation_runs WHERE id = CAST(:id AS uuid)", id=rehearsal.result)
    return sorted((row["idempotency_key"], row["amount_micros"]) for row in plan)


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
def test_plan_is_refused_when_the_provider_s_list_has_changed(stage: Stage) -> None:
    """A call that was corrected, or came to the window, after the rehearsal."""
    call = stage.place_calls(3)[0]
    rehearsal = run(reconcile_calls, dry_run=True)
    stage.sandbox.vapi.correct_call(call.id, at=stage.day[1], duration_ms=(call.duration_ms or 0) + 60_000)
    done = run(reconcile_calls, plan=rehearsal.result)

    assert isinstance(done.result, PermanentError)
    assert transfers(stage) == []
