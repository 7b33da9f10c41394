"""Providers that are not heard from."""

from datetime import timedelta

import pytest

from billing.rules.silence import RULE
from tests.books import Books

from .looking import NOW, all_clear, looked, receive, written

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def usual(owner: Books, days: list[int], count: int = 10) -> None:
    """So many events half an hour before this time of day, so many days ago."""
    for day in days:
        receive(owner, "vapi", count, day * DAY + HOUR / 2)


def state(books: Books, now: object = NOW) -> bool | None:
    """Whether Vapi is too silent."""
    return looked(books, RULE)["silence:vapi"].failing


@pytest.mark.parametrize("days", [[1, 2, 3, 4, 5, 6, 7], [7, 14, 21]], ids=["every day", "every Wednesday"])
def test_silence_where_there_always_were_events_is_found(books: Books, owner: Books, days: list[int]) -> None:
    """On each of the last 7 days, or on the same weekday of each of the last 3 weeks."""
    usual(owner, days)
    receive(owner, "vapi", 1, HOUR)
    condition = looked(books, RULE)["silence:vapi"]

    assert (condition.failing, condition.facts["minutes"]) == (True, 60)
    assert "No vapi event for 1 h 0 min" in written(condition)


@pytest.mark.parametrize(
    ("days", "count"),
    [([1, 2, 3, 4, 5, 6], 99), ([7, 14], 99), ([1, 2, 3, 4, 5, 6, 7], 9), ([], 0)],
    ids=["too few days", "too few weeks", "too few events", "no history"],
)
def test_silence_without_enough_history_is_never_an_alarm(
    books: Books, owner: Books, days: list[int], count: int
) -> None:
    """Nor is it the end of one."""
    usual(owner, days, count)
    receive(owner, "vapi", 1, HOUR)

    assert looked(books, RULE)["silence:vapi"].failing is None


def test_silence_at_a_time_that_is_always_silent_is_usual(books: Books, owner: Books) -> None:
    """Events at another time of the day say nothing about this one."""
    for day in range(1, 8):
        receive(owner, "vapi", 50, day * DAY + 5 * HOUR)
    receive(owner, "vapi", 1, 2 * HOUR)

    assert looked(books, RULE)["silence:vapi"].failing is None


def test_event_ends_the_silence(books: Books, owner: Books) -> None:
    """Even one; providers that were never heard from are not silent."""
    usual(owner, [1, 2, 3, 4, 5, 6, 7])
    receive(owner, "vapi", 1, timedelta(minutes=15))
    found = looked(books, RULE)

    assert {key: condition.failing for key, condition in found.items()} == {"silence:vapi": False}
    assert all_clear(found["silence:vapi"]) == "Events of vapi arrive again"


def test_silence_that_lasts_stays_one(books: Books, owner: Books) -> None:
    """After days the last ones are laid over the same days of earlier weeks."""
    for week in (7, 14, 21):
        usual(owner, [week, week + 1, week + 2])
    condition = looked(books, RULE, NOW + HOUR)["silence:vapi"]

    assert condition.failing
    assert condition.facts["last_at"] == "more than 3 days ago"
