"""`calltally reconcile` runs the night in Prefect and prints what it did."""

import json
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from billing.errors import BillingError, UnknownOrganization
from calltally.cli import app, night

from .stage import Stage


def reconcile(*options: str) -> tuple[Any, BaseException | None]:
    """The facts that the command prints, and its error."""
    answer = CliRunner().invoke(app, ["reconcile", "--json", *options])
    if answer.exception is not None and not isinstance(answer.exception, BillingError):
        raise answer.exception
    return json.loads(answer.stdout[answer.stdout.index("{") :]) if answer.exit_code == 0 else None, answer.exception


@pytest.fixture
def shell(stage: Stage, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage, from a terminal that knows the Prefect server."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    return stage


def test_command_bills_lost_calls_once(shell: Stage) -> None:
    """Rehearsed first, then billed, then found billed: the figures are in micros."""
    calls = shell.place_calls(3)
    rehearsal, _ = reconcile("--dry-run")
    shown, _ = reconcile("--organization", "Acme")
    again, _ = reconcile()

    assert (rehearsal["dry_run"], rehearsal["recovered_calls"]) == (True, 3)
    assert (shown["state"], shown["recovered_calls"], shown["reliability_ratio"]) == ("completed", 3, "0.00000000")
    assert rehearsal["recovered_micros"] == shown["recovered_micros"] > 0
    assert (again["recovered_calls"], again["counts"]["matched"]) == (0, 3)
    assert shell.charged() == {call.id for call in calls}


@pytest.mark.slow
def test_plan_names_every_call_and_is_applied_by_its_id(shell: Stage) -> None:
    """Those that are owed or nobody's too; the table is cut, and JSON is not."""
    poor = shell.books.organization("Poor", debt_limit_micros=0)
    shell.books.route(poor, "asst-poor")
    calls = {
        "settled": shell.place_calls(3),
        "outstanding": shell.place_calls(night.SHOWN, assistant="asst-poor"),
        "unattributed": shell.place_calls(2, assistant="asst-nobody"),
    }
    rehearsal, _ = reconcile("--dry-run")
    shown = CliRunner().invoke(app, ["reconcile", "--dry-run"]).stdout
    done, _ = reconcile("--apply", rehearsal["id"])
    plan = rehearsal["plan"]

    assert {call["call_id"]: call["outcome"] for call in plan["calls"]} == {
        call.id: outcome for outcome, placed in calls.items() for call in placed
    }
    assert {call["organization"] for call in plan["calls"]} == {"Acme", "Poor", None}
    assert "and 5 more; --json shows all" in shown
    assert f"To book exactly this: calltally reconcile --apply {done['applies_run_id']}"[:40] in shown
    assert done["applies_run_id"] == rehearsal["id"]
    assert (done["state"], done["recovered_micros"]) == ("completed", rehearsal["recovered_micros"])
    assert shell.charged() == {call.id for call in [*calls["settled"], *calls["outstanding"]]}


@pytest.mark.slow
def test_command_takes_its_window_in_utc(shell: Stage) -> None:
    """Both ends as typed, on the minute."""
    start, end = (moment.replace(microsecond=0) for moment in shell.day)
    shown, _ = reconcile("--from", f"{start:%Y-%m-%dT%H:%M:%S}", "--to", f"{end:%Y-%m-%dT%H:%M:%S}")

    assert shown["window_from"] == start.isoformat()
    assert shown["window_to"] == end.isoformat()
    assert end - start > timedelta(hours=1)


def test_command_for_an_unknown_organization_lists_the_known_ones(shell: Stage) -> None:
    """The error of the flow is the error of the command."""
    _, error = reconcile("--organization", "Acne")

    assert isinstance(error, UnknownOrganization)
    assert "There are: Acme" in str(error)
