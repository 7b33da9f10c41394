"""A night in Prefect: it bills what no webhook told us of, once, and says what it did."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect.settings import PREFECT_UI_URL, temporary_settings

from billing.errors import PermanentError, ProviderRefused, UnknownOrganization
from billing.reconcile import SETTLING
from billing.settings import get_settings
from calltally.sandbox.faults import text_fault
from calltally.sandbox.vapi import vapi_fault
from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls
from tests.books import Row

from .stage import Run, Stage, artifacts, as_owner, run, task_runs


def told(stage: Stage, count: int, lost: int) -> tuple[set[str], set[str]]:
    """Calls of which all but `lost` told us by webhook; the ids of both kinds."""
    calls = stage.place_calls(count)
    stage.report(calls[lost:])
    run(process_webhooks)
    return {call.id for call in calls[:lost]}, {call.id for call in calls[lost:]}


def noted(stage: Stage, night: Run) -> Row:
    """What the books keep of a night."""
    return stage.books.rows("SELECT * FROM reconciliation_runs WHERE flow_run_id = :id", id=night.id)[0]


def found(stage: Stage, night: Run) -> set[tuple[str, str | None]]:
    """Its findings, as pairs of kind and call."""
    rows = stage.books.rows("SELECT * FROM findings WHERE run_id = :id", id=noted(stage, night)["id"])
    return {(row["kind"], row["call_id"]) for row in rows}


def test_lost_webhooks_are_found_and_billed_once(stage: Stage) -> None:
    """The night finds exactly the lost calls, bills them and tells Slack; the same night again changes nothing."""
    lost, reported = told(stage, 20, lost=4)
    first = run(reconcile_calls)
    books = stage.books.rows("SELECT * FROM transfers ORDER BY id")
    second = run(reconcile_calls)
    row, again = noted(stage, first), noted(stage, second)

    assert first.state.is_completed()
    assert first.result == str(row["id"])
    assert first.name.startswith("reconcile 20")
    assert found(stage, first) == {("missing", call_id) for call_id in lost}
    assert stage.charged() == lost | reported
    assert (row["state"], row["ended_calls"], row["ended_by_webhook"], row["recovered_calls"]) == (
        "completed",
        20,
        16,
        4,
    )
    assert row["recovered_micros"] == sum(
        charge["amount_micros"]
        for charge in stage.books.charges(stage.organization_id)
        if charge["idempotency_key"].removeprefix("call:") in lost
    )
    assert stage.books.rows("SELECT * FROM transfers ORDER BY id") == books
    assert (again["recovered_calls"], again["recovered_micros"]) == (0, 0)
    assert row["reliability_ratio"] == again["reliability_ratio"] < get_settings().reliability_threshold
    assert found(stage, second) == set()
    assert row["alert"] == "sent"
    assert stage.books.broken() == []


@pytest.mark.slow
def test_night_shows_artifacts_and_writes_a_report(stage: Stage) -> None:
    """Prefect's UI shows the summary and the recovered calls; a file keeps every compared call.

    Slack and the report lead to the run below PREFECT_UI_URL, not below the address of the API.
    """
    lost, reported = told(stage, 6, lost=2)
    with temporary_settings({PREFECT_UI_URL: "https://prefect.example.com"}):
        night = run(reconcile_calls)
    page = f"https://prefect.example.com/runs/flow-run/{night.id}"
    shown = artifacts(night.id)
    folder = Path(noted(stage, night)["report_path"].removeprefix("file://"))
    report = pd.read_parquet(folder / "calls.parquet")

    assert set(shown) == {
        "findings",
        "reconciliation-progress",
        "reconciliation-report",
        "reconciliation-summary",
        "reliability-chart",
    }
    assert "66.66 %" in str(shown["reconciliation-summary"].data)
    assert all(call_id in str(shown["findings"].data) for call_id in lost)
    assert shown["reconciliation-progress"].data == 100.0
    assert {file.name for file in folder.iterdir()} == {"calls.parquet", "findings.csv", "report.html"}
    assert dict(zip(report["call_id"], report["kind"], strict=True)) == {
        **dict.fromkeys(lost, "missing"),
        **dict.fromkeys(reported, "matched"),
    }
    assert f"Report: `{folder.as_uri()}`" in str(shown["reconciliation-summary"].data)
    assert page in str(stage.sandbox.slack.messages[-1])
    assert f'href="{page}"' in (folder / "report.html").read_text()


@pytest.mark.slow
def test_good_day_alerts_nobody(stage: Stage) -> None:
    """Exactly at the threshold Slack hears nothing."""
    told(stage, 20, lost=1)
    night = run(reconcile_calls)

    assert noted(stage, night)["alert"] == "not needed"
    assert stage.sandbox.slack.messages == []


@pytest.mark.slow
def test_day_without_calls_has_no_ratio(stage: Stage) -> None:
    """Nothing to compare is not a failure."""
    night = run(reconcile_calls)
    row = noted(stage, night)

    assert night.state.is_completed()
    assert (row["ended_calls"], row["reliability_ratio"], row["alert"]) == (0, None, "not needed")


def test_dry_run_shows_what_would_be_billed_and_bills_nothing(stage: Stage) -> None:
    """Same findings and figures, no transfer, no call, no message; the real night then does just that."""
    lost, _ = told(stage, 10, lost=3)
    before = stage.books.rows("SELECT * FROM transfers ORDER BY id")
    rehearsal = run(reconcile_calls, dry_run=True)
    after = stage.books.rows("SELECT * FROM transfers ORDER BY id")
    calls = stage.books.value("SELECT count(*) FROM calls")
    seen = stage.books.value("SELECT count(*) FROM first_sights")
    real = run(reconcile_calls)
    figures = ("recovered_calls", "recovered_micros", "outstanding_micros", "counts", "reliability_ratio")

    assert rehearsal.name.startswith("rehearse ")
    assert (after, calls, seen) == (before, 7, 0)
    assert found(stage, rehearsal) == found(stage, real) == {("missing", call_id) for call_id in lost}
    assert {name: noted(stage, rehearsal)[name] for name in figures} == {
        name: noted(stage, real)[name] for name in figures
    }
    assert len(stage.sandbox.slack.messages) == 1


@pytest.mark.slow
def test_night_of_one_organization_leaves_the_others_alone(stage: Stage) -> None:
    """Calls of others stay missing until their own night."""
    other = stage.books.organization("Other")
    stage.books.route(other, "asst-other")
    ours = {call.id for call in stage.place_calls(2)}
    theirs = {call.id for call in stage.place_calls(3, assistant="asst-other")}
    night = run(reconcile_calls, organization="Acme")

    assert stage.charged() == ours
    assert noted(stage, night)["organization_id"] == stage.organization_id
    page = Path(noted(stage, night)["report_path"].removeprefix("file://")) / "report.html"
    assert "Webhooks of Acme fell below" in page.read_text()
    run(reconcile_calls)
    assert stage.charged() == ours | theirs


def test_unknown_organization_fails_at_once_and_lists_the_known_ones(stage: Stage) -> None:
    """A misspelt name compares nothing."""
    night = run(reconcile_calls, organization="Acne")

    assert night.state.is_failed()
    assert isinstance(night.result, UnknownOrganization)
    assert "Acme" in str(night.result)
    assert list(stage.sandbox.vapi.faults.requests) == []


@pytest.mark.slow
def test_calls_of_nobody_are_recorded_and_named(stage: Stage) -> None:
    """They are in quarantine, the finding says why, and a route bills them."""
    calls = {call.id for call in stage.place_calls(2, assistant="asst-new")}
    night = run(reconcile_calls)
    stage.books.route(stage.organization_id, "asst-new")

    assert found(stage, night) == {("unattributed", call_id) for call_id in calls}
    assert stage.charged() == calls


@pytest.mark.slow
def test_unreadable_row_is_a_finding_and_stops_nothing(stage: Stage) -> None:
    """The other calls are billed; the broken one is named with its problem."""
    lost, _ = told(stage, 5, lost=2)
    spoilt = stage.place_calls(1)[0]
    stage.sandbox.vapi.spoil_call(spoilt.id, {"id": spoilt.id, "createdAt": "yesterday"})
    night = run(reconcile_calls)
    problem = stage.books.value("SELECT detail FROM findings WHERE kind = 'unreadable'")

    assert night.state.is_completed()
    assert found(stage, night) == {("unreadable", spoilt.id), *(("missing", call_id) for call_id in lost)}
    assert "createdAt" in problem["problem"]


def test_longer_call_at_the_provider_is_corrected_once(stage: Stage) -> None:
    """The difference is booked at the price of the call."""
    told(stage, 3, lost=0)
    call = stage.sandbox.vapi.calls()[0]
    stage.sandbox.vapi.correct_call(call.id, at=stage.day[1], duration_ms=(call.duration_ms or 0) + 60_000)
    night = run(reconcile_calls)
    difference = stage.books.value("SELECT amount_micros FROM findings WHERE kind = 'drift'")

    assert found(stage, night) == {("drift", call.id)}
    assert difference == 700_000
    assert found(stage, run(reconcile_calls)) == set()
    assert stage.books.broken() == []


@pytest.mark.slow
def test_wrong_key_fails_at_once_and_says_which_key(stage: Stage, changed: Callable[..., None]) -> None:
    """No retry can help: Vapi is asked once, and the run's row keeps the message."""
    changed(VAPI_API_KEY="the-public-one")
    night = run(reconcile_calls)
    asked = [known for known in task_runs(night.id, 2) if known.name.startswith("ask for")]

    assert night.state.is_failed()
    assert isinstance(night.result, ProviderRefused)
    assert noted(stage, night)["state"] == "failed"
    assert noted(stage, night)["error"].startswith("Vapi refuses VAPI_API_KEY (401)")
    assert [known.run_count for known in asked] == [1]


@pytest.mark.slow
def test_rate_limit_is_waited_for_and_the_night_completes(stage: Stage) -> None:
    """A window that was refused once is asked for again, and nothing is missed."""
    lost, _ = told(stage, 4, lost=2)
    stage.sandbox.vapi.faults.add(vapi_fault(429, "Rate limit exceeded", retry_after_seconds=1))
    night = run(reconcile_calls)

    assert night.state.is_completed()
    assert found(stage, night) == {("missing", call_id) for call_id in lost}


OUTBOX_BREAKS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no alerts today'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION refuse();
"""
SLOW = pytest.mark.slow


@pytest.mark.usefixtures("own_tables")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("slack", "outcome"),
    [
        ("absent", "could not alert: SLACK_WEBHOOK_URL is not set"),
        ("unwritable", "could not alert: InstallationBroken"),
        pytest.param("failing", "could not alert: Slack answered 500 rollup_error", marks=SLOW),
        pytest.param("nobody", "could not alert: URLError", marks=SLOW),
    ],
)
def test_night_that_cannot_alert_completes_and_says_so_everywhere(
    stage: Stage, changed: Callable[..., None], slack: str, outcome: str
) -> None:
    """Whatever is in the way: the calls are billed, and run, findings, files and Prefect's pages name the reason."""
    lost, _ = told(stage, 4, lost=2)
    if slack == "absent":
        changed(SLACK_WEBHOOK_URL=None)
    elif slack == "nobody":
        changed(SLACK_WEBHOOK_URL="http://127.0.0.1:9/services/x")
    elif slack == "unwritable":
        as_owner(stage.engine, OUTBOX_BREAKS)
    else:
        stage.sandbox.slack.faults.add(text_fault(500, "rollup_error"), times=5)
    night = run(reconcile_calls)
    row, shown = noted(stage, night), artifacts(night.id)
    folder = Path(row["report_path"].removeprefix("file://"))

    assert night.state.is_completed()
    assert row["alert"] == outcome
    assert stage.books.rows("SELECT outcome, detail FROM findings WHERE kind = 'alert'") == [
        {"outcome": "noted", "detail": {"problem": outcome}}
    ]
    for published in (folder / "findings.csv", folder / "report.html"):
        assert outcome in published.read_text()
    assert outcome in str(shown["findings"].data)
    assert f"Slack: {outcome}" in str(shown["reconciliation-summary"].data).replace("\\", "")
    assert lost <= stage.charged()


@pytest.mark.slow
def test_place_that_takes_no_report_costs_nothing_else(stage: Stage, changed: Callable[..., None]) -> None:
    """The run completes with a finding that says what to do, and Prefect shows all of the night but the files."""
    lost, _ = told(stage, 4, lost=2)
    changed(REPORTS_URL="nowhere://reports")
    night = run(reconcile_calls)
    row, shown = noted(stage, night), artifacts(night.id)
    [problem] = stage.books.rows("SELECT detail ->> 'problem' AS text FROM findings WHERE kind = 'report'")

    assert night.state.is_completed()
    assert (row["state"], row["alert"], row["report_path"]) == ("completed", "sent", None)
    assert problem["text"].startswith("REPORTS_URL begins with nowhere://")
    assert problem["text"] in str(shown["findings"].data)
    assert set(shown) == {"findings", "reconciliation-progress", "reconciliation-summary", "reliability-chart"}
    assert "findings.csv" not in str(shown["findings"].description)
    assert lost <= stage.charged()


@pytest.mark.slow
def test_window_follows_from_the_scheduled_start(stage: Stage) -> None:
    """A run that begins late covers the window that it was meant to cover."""
    scheduled = datetime.now(UTC) - timedelta(hours=5)
    night = run(reconcile_calls, scheduled=scheduled)
    row: dict[str, Any] = noted(stage, night)

    assert abs(row["window_to"] - (scheduled - SETTLING)) < timedelta(milliseconds=1)
    assert row["window_to"] - row["window_from"] == timedelta(hours=24)


def test_empty_window_fails_with_both_ends(stage: Stage) -> None:
    """A person who mixes up the ends learns it at once."""
    now = datetime.now(UTC)
    night = run(reconcile_calls, window_from=now, window_to=now - timedelta(hours=1))

    assert night.state.is_failed()
    assert isinstance(night.result, PermanentError)
    assert "the window is empty" in str(night.result)
