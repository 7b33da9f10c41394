"""Calls that ended and that nobody pays for."""

from datetime import timedelta

from billing.rules.billed_calls import RULE
from tests.books import Books, told_call

from .looking import NOW, all_clear, looked, written

HOUR = timedelta(hours=1)


def test_calls_without_a_route_are_found_until_they_have_one(books: Books) -> None:
    """All of them count, and the first ten are named; a call that never connected is billed too, for nothing."""
    organization_id = books.organization()
    books.route(organization_id, "known")
    books.record(*(told_call(f"stray-{n:02}", "stray", 60, NOW - HOUR) for n in range(12)))
    books.record(told_call("billed", "known", 60, NOW - HOUR), told_call("free", "known", None, NOW - HOUR))
    condition = looked(books, RULE)["billed_calls"]
    books.route(organization_id, "stray")
    after = looked(books, RULE)["billed_calls"]

    assert (condition.failing, condition.measured) == (True, "2 of 14 calls")
    assert condition.facts["first_ids"] == [f"stray-{n:02}" for n in range(10)]
    assert "12 of 14 calls of the last 6 hours are not billed" in written(condition)
    assert "and 2 more" in written(condition)
    assert (after.failing, all_clear(after)) == (False, "Calls are billed again: 100.00 % of 14")


def test_call_that_may_be_chance_is_no_alarm(books: Books) -> None:
    """One of 60 may happen where 99 % are billed; one of one may not."""
    books.record(told_call("stray", "stray", 60, NOW - HOUR))
    alone = looked(books, RULE)["billed_calls"]
    books.route(books.organization(), "known")
    books.record(*(told_call(f"billed-{n}", "known", 60, NOW - HOUR) for n in range(59)))

    assert alone.failing
    assert looked(books, RULE)["billed_calls"].failing is False


def test_calls_outside_of_the_window_do_not_count(books: Books) -> None:
    """Older ones, and those that have not ended by then; long ones that ended within do."""
    books.record(told_call("old", "stray", 60, NOW - 7 * HOUR), told_call("later", "stray", 600, NOW - HOUR / 12))
    before = looked(books, RULE)["billed_calls"]
    books.record(told_call("long", "stray", 10 * 3600, NOW - 11 * HOUR))

    assert (before.failing, before.measured) == (False, "0 of 0 calls")
    assert looked(books, RULE)["billed_calls"].facts["first_ids"] == ["long"]
