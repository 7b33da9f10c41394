"""Dead events, whose incidents SQL keeps."""

from datetime import timedelta

from billing import monitoring
from billing.rules.dead_events import RULE
from tests.books import Books

from .looking import looked, receive, written


def test_dead_events_are_shown_per_kind_and_noted_once(books: Books, owner: Books) -> None:
    """However often the rule looks and its findings are noted: one incident, which ends with its events."""
    before = looked(books, RULE)
    receive(owner, "vapi", 2, timedelta(hours=1), "dead")
    receive(owner, "stripe", 1, timedelta(hours=1), "dead")
    found = looked(books, RULE)
    monitoring.note(books.engine, [*found.values()])
    messages = books.rows("SELECT key, kind FROM alerts ORDER BY key")
    owner.rows("DELETE FROM events RETURNING 1")
    after = looked(books, RULE)

    assert [condition.failing for condition in before.values()] == [False]
    assert {key: condition.measured for key, condition in found.items()} == {
        "dead_events:stripe:Reason": "1 events",
        "dead_events:vapi:Reason": "2 events",
    }
    assert "2 vapi events could not be applied: Reason" in written(found["dead_events:vapi:Reason"])
    assert messages == [{"key": key, "kind": "raised"} for key in found]
    assert list(after) == ["dead_events"]
    assert books.value("SELECT count(*) FROM incidents WHERE closed_at IS NULL") == 0
