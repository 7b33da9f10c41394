"""Somebody looks at the books every 15 minutes, and says what is wrong once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.monitor_billing import monitor_billing

from .stage import Stage, artifacts, as_owner, run, table

WEDNESDAY = datetime(2026, 11, 18, 12, tzinfo=UTC)


def headlines(stage: Stage) -> list[str]:
    """The titles of the messages in Slack."""
    return [message["blocks"][0]["text"]["text"] for message in stage.sandbox.slack.messages]


def health(flow_run_id: Any) -> dict[str, dict[str, str]]:
    """The table that a run shows, by rule."""
    return {row["rule"]: row for row in table(artifacts(flow_run_id)["billing-health"])}


def test_trouble_is_told_once_shown_since_when_and_told_when_it_is_over(stage: Stage) -> None:
    """One row per rule in Prefect; the books themselves are left alone."""
    well = run(monitor_billing)
    as_owner(stage.engine, "UPDATE wallets SET balance_micros = balance_micros + 1")
    stage.books.deduct(stage.books.organization("Big"), "call", 60_000_000)
    failing = run(monitor_billing)
    again = run(monitor_billing)
    as_owner(stage.engine, "UPDATE wallets SET balance_micros = balance_micros - 1 WHERE balance_micros <> 0")
    over = run(monitor_billing)

    assert (well.name, well.result) == ("all is well", 0)
    assert {row["state"] for row in health(well.id).values()} == {"ok", "cannot tell"}
    assert health(well.id)["applied_events:twilio"]["measured"] == "no events"
    assert (failing.result, again.result, over.result) == (3, 3, 2)
    assert health(again.id)["broken_books"]["state"] == "FAILING"
    assert health(again.id)["broken_books"]["since"] == health(failing.id)["broken_books"]["since"] != ""
    assert health(over.id)["broken_books"]["state"] == "ok"
    assert [headline.partition(": ")[2] for headline in headlines(stage)] == [
        "Critical: check_books() finds 1 broken row",
        "1 wallet is at the debt limit or near it, or below the recharge threshold",
        "$60.00 outstanding with 1 organization",
        "Every invariant of the books holds again",
    ]


def test_watch_looks_back_from_when_it_was_scheduled(stage: Stage) -> None:
    """It can reckon with the time that Prefect names, and with providers that were heard from."""
    stage.pay(5_000)
    as_owner(stage.engine, "UPDATE events SET received_at = received_at - interval '5 minutes'")
    looked = run(monitor_billing, scheduled=datetime.now(UTC) - timedelta(minutes=1))

    assert looked.state.is_completed(), looked.state.message
    assert health(looked.id)["silence:stripe"]["state"] == "ok"


def test_look_alone_notes_and_tells_nothing(stage: Stage) -> None:
    """The table shows it all the same, without since when."""
    stage.books.deduct(stage.organization_id, "call", 160_000_000)
    looked = run(monitor_billing, dry_run=True)

    assert health(looked.id)["outstanding_money"]["state"] == "FAILING"
    assert stage.books.value("SELECT count(*) FROM incidents") == 0
    assert stage.sandbox.slack.messages == []


@pytest.mark.usefixtures("own_tables")
def test_rule_that_cannot_be_looked_at_fails_the_run_after_all_others_were_noted(stage: Stage) -> None:
    """Nobody takes a defect of the watch for well-being."""
    as_owner(stage.engine, "ALTER TABLE organizations RENAME TO organisations")
    as_owner(stage.engine, "UPDATE wallets SET balance_micros = balance_micros + 1")
    ended = run(monitor_billing)

    assert ended.state.is_failed()
    assert health(ended.id)["broken_books"]["state"] == "FAILING"
    assert "Critical: check_books()" in headlines(stage)[0]


@pytest.mark.slow
def test_monday_brings_the_summary_of_the_week(stage: Stage, changed: Callable[..., None]) -> None:
    """By the time at which the run was due, once."""
    changed(WEEKLY_SUMMARY="true")
    monday = WEDNESDAY - timedelta(days=2, hours=3.75)
    for _ in range(2):
        run(monitor_billing, scheduled=monday)

    [summary] = [headline for headline in headlines(stage) if "bar_chart" in headline]
    assert "calls from 2026-11-09 to 2026-11-15" in summary
