"""The flow that forgets: bodies first, rows later, as many steps as it takes, and the books stay as they are."""

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from billing.deliveries import Delivery
from billing.inbox import accept
from flows.process_webhooks import process_webhooks
from flows.prune_events import prune_events

from .stage import Stage, as_owner, run

OLDER = """
UPDATE events SET finished_at = finished_at - interval '{days} days',
    received_at = received_at - interval '{days} days';
UPDATE event_bodies SET received_at = received_at - interval '{days} days'
"""
MANY = """
INSERT INTO event_bodies (received_at, event_id, body)
SELECT now() - interval '31 days', -n, '{}' FROM generate_series(1, 10500) AS n
"""


def test_old_bodies_are_forgotten_and_the_run_says_how_many(stage: Stage) -> None:
    """Only of what is done or skipped; a dead event keeps its body."""
    stage.report(stage.place_calls(3))
    accept(stage.engine, [Delivery("vapi", "x:end-of-call-report", "end-of-call-report", b'{"message": {}}')])
    run(process_webhooks)
    as_owner(stage.engine, OLDER.format(days=31))
    before = stage.books.transfers(stage.organization_id)
    pruned = run(prune_events)
    again = run(prune_events)

    assert pruned.name == "forget 0 months of bodies, 3 other bodies and 0 events"
    assert again.name == "forget 0 months of bodies, 0 other bodies and 0 events"
    assert stage.states() == {"done": 3, "dead": 1}
    assert stage.books.rows("SELECT state FROM events JOIN event_bodies ON event_id = id") == [{"state": "dead"}]
    assert stage.books.transfers(stage.organization_id) == before
    assert stage.books.broken() == []


@pytest.mark.slow
def test_old_events_are_removed_and_a_late_repetition_books_nothing(stage: Stage) -> None:
    """A delivery of a forgotten event is applied to a call that is charged already."""
    calls = stage.place_calls(2)
    stage.report(calls)
    run(process_webhooks)
    as_owner(stage.engine, OLDER.format(days=500))
    before = stage.books.transfers(stage.organization_id)
    pruned = run(prune_events)
    stage.report(calls)
    run(process_webhooks)

    assert pruned.name == "forget 0 months of bodies, 2 other bodies and 2 events"
    assert stage.states() == {"done": 2}
    assert stage.books.transfers(stage.organization_id) == before


def test_more_than_one_step_is_taken_until_nothing_is_left(stage: Stage) -> None:
    """One transaction takes ten thousand; a run takes all."""
    as_owner(stage.engine, MANY)

    assert run(prune_events, body_days=30).name == "forget 0 months of bodies, 10500 other bodies and 0 events"


def test_ages_out_of_range_are_refused(stage: Stage) -> None:
    """Nobody forgets what came today by mistake."""
    stage.report(stage.place_calls(1))
    run(process_webhooks)

    with pytest.raises(PrefectHTTPStatusError, match="less than the minimum of 1"):
        run(prune_events, body_days=0)
    with pytest.raises(PrefectHTTPStatusError, match="less than the minimum of 30"):
        run(prune_events, row_days=29)
    assert stage.books.value("SELECT count(*) FROM event_bodies") == 1
