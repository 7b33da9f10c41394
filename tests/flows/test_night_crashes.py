"""Killed at any step and run again, a night comes to the same books and the same ratio as one that was left alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from billing.plans import UnknownPlan
from calltally.sandbox.calls import Call
from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls

from .dying_night import PLAN_STEPS, STEPS
from .stage import Stage, run

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def day_with_losses(stage: Stage) -> list[Call]:
    """Ten calls of which four told us; one of these was longer than its report said."""
    calls = stage.place_calls(10)
    stage.report(calls[6:])
    run(process_webhooks)
    stage.sandbox.vapi.correct_call(calls[-1].id, at=stage.day[1], duration_ms=(calls[-1].duration_ms or 0) + 60_000)
    return calls


def windows(stage: Stage) -> list[str]:
    """The same for both runs."""
    return [moment.isoformat() for moment in stage.day]


def result(stage: Stage) -> dict[str, Any]:
    """What the books and the last night say."""
    night = stage.books.rows("SELECT * FROM reconciliation_runs ORDER BY started_at DESC LIMIT 1")[0]
    return {
        "charges": [
            (row["idempotency_key"], row["state"], row["amount_micros"])
            for row in stage.books.charges(stage.organization_id)
        ],
        "balance": stage.books.balance(stage.organization_id),
        "calls": stage.books.rows("SELECT id, reconciled FROM calls ORDER BY id"),
        "ratio": night["reliability_ratio"],
        "state": night["state"],
        "recovered": stage.books.value(
            "SELECT sum(recovered_calls) FROM reconciliation_runs WHERE state = 'completed' AND NOT dry_run"
        ),
        "found": sorted(
            row["call_id"]
            for row in stage.books.rows(
                "SELECT call_id FROM findings INNER JOIN reconciliation_runs AS run ON run.id = findings.run_id"
                " WHERE findings.kind = 'missing' AND NOT dry_run"
            )
        ),
        "corrected": stage.books.value(
            "SELECT sum(amount_micros) FROM findings"
            " INNER JOIN reconciliation_runs AS run ON run.id = findings.run_id"
            " WHERE findings.kind = 'drift' AND outcome = 'corrected' AND NOT dry_run"
        ),
        "broken": stage.books.broken(),
    }


def expected(calls: Sequence[Call], shown: dict[str, Any]) -> None:
    """Six recovered, one corrected, each once, in the books and in what the runs that ended well say."""
    keys = sorted([*(f"call:{call.id}" for call in calls), f"call:{calls[-1].id}:correction:1"])

    assert [key for key, _, _ in shown["charges"]] == keys
    assert {row["id"] for row in shown["calls"] if row["reconciled"]} == {call.id for call in calls[:6]}
    assert shown["ratio"] == Decimal("0.4")
    assert (shown["recovered"], shown["found"]) == (6, sorted(call.id for call in calls[:6]))
    assert shown["corrected"] == shown["charges"][keys.index(f"call:{calls[-1].id}:correction:1")][2]
    assert (shown["state"], shown["broken"]) == ("completed", [])


def die(prefect_api: str, step: str, **parameters: str) -> None:
    """A night in a process of its own, until it is killed."""
    command = [sys.executable, "-m", "tests.flows.dying_night", step, json.dumps(parameters)]
    died = subprocess.run(command, cwd=ROOT, env={**os.environ, "PREFECT_API_URL": prefect_api}, check=False)
    assert died.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_night_that_died_is_made_up_for_by_the_next(stage: Stage, prefect_api: str, step: str) -> None:
    """Nothing twice and nothing left out, whatever the dead one had done already."""
    calls = day_with_losses(stage)
    window_from, window_to = windows(stage)
    die(prefect_api, step, window_from=window_from, window_to=window_to)
    night = run(reconcile_calls, window_from=window_from, window_to=window_to)
    states = [row["state"] for row in stage.books.rows("SELECT state FROM reconciliation_runs ORDER BY started_at")]

    assert night.state.is_completed()
    expected(calls, result(stage))
    assert "running" not in states
    assert 1 <= len(stage.sandbox.slack.messages) <= 2
    if states == ["failed", "completed"]:
        assert all(call.id in str(stage.sandbox.slack.messages[-1]) for call in calls[:6])


@pytest.mark.parametrize("step", PLAN_STEPS)
def test_plan_whose_run_died_is_carried_out_once(stage: Stage, prefect_api: str, step: str) -> None:
    """Applied again, it books what was not booked, finishes what was, and refuses what was finished."""
    calls = day_with_losses(stage)
    window_from, window_to = windows(stage)
    rehearsal = run(reconcile_calls, window_from=window_from, window_to=window_to, dry_run=True)
    die(prefect_api, step, plan=rehearsal.result)
    again = run(reconcile_calls, plan=rehearsal.result)

    assert again.state.is_failed() == (step == "after storing the findings")
    expected(calls, result(stage))
    assert isinstance(run(reconcile_calls, plan=rehearsal.result).result, UnknownPlan)
