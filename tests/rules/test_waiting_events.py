"""A line that does not move."""

from datetime import timedelta

import pytest

from billing.rules.waiting_events import RULE
from tests.books import Books

from .looking import all_clear, looked, receive, written


@pytest.mark.parametrize("state", ["waiting", "active", "delayed"])
@pytest.mark.parametrize(
    ("minutes", "failing", "severity"),
    [(4, False, "warning"), (6, True, "warning"), (59, True, "warning"), (60, True, "critical")],
)
def test_event_that_waits_for_too_long_is_found(
    books: Books, owner: Books, state: str, minutes: int, failing: bool, severity: str
) -> None:
    """After `health_max_waiting`, also in the hands of a worker that hangs; after an hour it wakes people."""
    receive(owner, "vapi", 12, timedelta(minutes=minutes), state)
    receive(owner, "vapi", 1, timedelta(minutes=1), "waiting")
    condition = looked(books, RULE)["waiting_events"]

    assert (condition.failing, condition.severity) == (failing, severity)
    assert condition.measured == f"the oldest waits for {minutes} minutes"
    if failing:
        assert f"12 events wait to be applied, the oldest for {minutes} minutes" in written(condition)
        assert "and 2 more" in written(condition)
        assert condition.facts["claimed"] == (0 if state == "waiting" else 12)


def test_limit_is_that_of_health(books: Books, owner: Books) -> None:
    """Both say the same of the same line."""
    receive(owner, "vapi", 1, timedelta(minutes=6), "waiting")
    condition = looked(books, RULE, health_max_waiting=timedelta(minutes=10))["waiting_events"]

    assert condition.failing is False
    assert all_clear(condition) == "The line of webhooks moves again"


def test_line_that_is_empty_or_busy_is_well(books: Books, owner: Books) -> None:
    """What ended, or is parked, waits for nobody."""
    receive(owner, "vapi", 3, timedelta(hours=2), "parked")
    receive(owner, "vapi", 3, timedelta(hours=2))

    assert looked(books, RULE)["waiting_events"].measured == "nothing waits"
