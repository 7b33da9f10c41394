"""The deployment that replays: a rehearsal is an artifact and no more, a replay puts events back in line."""

from typing import Any

import pytest

from billing.errors import TransactionConflict
from flows.process_webhooks import process_webhooks
from flows.replay_events import replay_events

from .stage import Stage, artifacts, as_owner, run, table

MEND = "DROP TRIGGER fail_call ON calls; DROP FUNCTION fail_call; DROP SEQUENCE failures"


def dead_calls(stage: Stage) -> None:
    """Three calls of which one died of an error that could not pass; the cause is mended by now."""
    calls = stage.place_calls(3)
    stage.report(calls)
    stage.fail(calls[0], times=1000, sqlstate="23514")
    run(process_webhooks)
    as_owner(stage.engine, MEND)
    assert stage.states() == {"done": 2, "dead": 1}


def test_rehearsal_shows_its_transfers_and_changes_nothing(stage: Stage) -> None:
    """That is what a run does unless told otherwise; the artifact has a row per transfer."""
    dead_calls(stage)
    before = stage.books.rows("SELECT * FROM events ORDER BY id"), stage.books.transfers(stage.organization_id)
    rehearsed = run(replay_events)
    shown = artifacts(rehearsed.id)["replay-rehearsal"]
    content = table(shown)

    assert (rehearsed.result, rehearsed.name) == (0, "rehearse 1 dead events")
    assert [row["organization"] for row in content] == ["Acme"]
    assert content[0]["transfer"].startswith("call:")
    assert shown.description == "Events would end as: 1 done. Their transfers:"
    assert rehearsed.state.message == "rehearsed: events would end as: 1 done"
    assert before == (
        stage.books.rows("SELECT * FROM events ORDER BY id"),
        stage.books.transfers(stage.organization_id),
    )


def test_replay_puts_dead_events_back_and_the_next_run_applies_them(stage: Stage) -> None:
    """What was refused is charged now, once, and nothing else is."""
    dead_calls(stage)
    replayed = run(replay_events, dry_run=False)
    between = stage.states()
    applied = run(process_webhooks)

    assert (replayed.result, replayed.name) == (1, "replay 1 dead events")
    assert (replayed.state.message or "").startswith("1 put back in line")
    assert between == {"done": 2, "waiting": 1}
    assert applied.result["done"] == 1
    assert len(stage.charged()) == 3
    assert len(stage.books.rows("SELECT FROM transfers WHERE kind = 'call'")) == 3
    assert stage.books.broken() == []


@pytest.mark.slow
def test_replay_of_done_events_books_nothing_twice(stage: Stage) -> None:
    """Replaying too much does no harm."""
    stage.pay(5_000)
    stage.report(stage.place_calls(3))
    run(process_webhooks)
    before = stage.books.transfers(stage.organization_id)
    replayed = run(replay_events, state="done", dry_run=False)
    run(process_webhooks)

    assert replayed.result == 5
    assert stage.states() == {"done": 5}
    assert stage.books.transfers(stage.organization_id) == before


@pytest.mark.slow
def test_replay_by_criteria_takes_only_what_fits(stage: Stage) -> None:
    """By error, type, time and id; what fits nothing is a run that did nothing."""
    dead_calls(stage)
    dead_id = stage.books.value("SELECT id FROM events WHERE state = 'dead'")

    assert run(replay_events, error="ConstraintBroken", ids=[dead_id]).name == "rehearse 1 dead events"
    criteria: list[dict[str, Any]] = [
        {"error": "no such error"},
        {"event_type": "status-update"},
        {"until": "2020-01-01T00:00:00Z"},
        {"ids": [dead_id + 1_000]},
    ]
    for missing_all in criteria:
        nothing = run(replay_events, dry_run=False, **missing_all)
        assert (nothing.result, nothing.name) == (0, "replay 0 dead events")
    assert stage.states() == {"done": 2, "dead": 1}


@pytest.mark.usefixtures("own_tables")
def test_rehearsal_of_event_that_would_fail_again_fails_and_says_why(stage: Stage) -> None:
    """The run fails with the event's error, and nothing was changed."""
    calls = stage.place_calls(1)
    stage.report(calls)
    run(process_webhooks)
    as_owner(stage.engine, "SET session_replication_role = replica; DELETE FROM charges; DELETE FROM calls")
    stage.fail(calls[0], times=1000)
    rehearsed = run(replay_events, state="done")

    assert rehearsed.state.is_failed()
    assert isinstance(rehearsed.result, TransactionConflict)
    assert stage.states() == {"done": 1}
