"""Calls that ended and that nobody pays for."""

from datetime import timedelta

from billing.alerts import note_condition
from billing.monitoring import note
from billing.rules.billed_calls import RULE
from tests.books import Books, told_call

from .looking import NOW, all_clear, looked, written

HOUR = timedelta(hours=1)


def test_calls_without_a_route_are_found_until_they_have_one(books: Books) -> None:
    """All of them count, and the first ten are named; a call that never connected is billed too, for nothing."""
    organization_id = books.organization()
    books.route(organization_id, "known")
    books.record(*(told_call(f"stray-{n:02}", "stray", 60, NOW - HOUR) for n in range(12)))
    unconnected = {
        **told_call("free", "known", None),
        "ended_at": (NOW - HOUR).isoformat(),
        "provider_cost_micros": 0,
    }
    books.record(told_call("billed", "known", 60, NOW - HOUR), {**unconnected, "created_at": unconnected["ended_at"]})
    condition = looked(books, RULE)["billed_calls"]
    books.route(organization_id, "stray")
    after = looked(books, RULE)["billed_calls"]

    assert (condition.failing, condition.measured) == (
        True, "2 of 14 calls: 14.28 % (95 % interval 4.00 % to 39.94 %)",
    )  # fmt: skip
    assert condition.facts["first_ids"] == [f"stray-{n:02}" for n in range(10)]
    assert "12 of 14 calls since 2026-11-18 06:00 UTC are not billed" in written(condition)
    assert "and 2 more" in written(condition)
    assert (after.failing, all_clear(after)) == (
        False, "Calls are billed again: 100.00 % of 14 since 2026-11-18 06:00 UTC",
    )  # fmt: skip


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

    assert (before.failing, before.measured) == (None, "no calls")
    assert looked(books, RULE)["billed_calls"].facts["first_ids"] == ["long"]


def test_calls_that_grow_old_unbilled_stay_an_incident_until_they_are_billed(books: Books) -> None:
    """A quiet day is no all-clear: they left the window, not the quarantine."""
    books.record(*(told_call(f"stray-{n}", "stray", 60, NOW - HOUR) for n in range(5)))
    note(books.engine, list(looked(books, RULE).values()))
    much_later = [looked(books, RULE, NOW + hours * HOUR)["billed_calls"] for hours in (7, 80)]
    note(books.engine, much_later)
    books.route(books.organization(), "known")
    books.record(*(told_call(f"billed-{n}", "known", 60, NOW + 6 * HOUR) for n in range(300)))
    beside_others = looked(books, RULE, NOW + 7 * HOUR)["billed_calls"]
    waiting = books.rows("SELECT kind, facts ->> 'ended' AS ended FROM alerts")
    books.route(books.organization(), "stray")
    mended = looked(books, RULE, NOW + 8 * HOUR)["billed_calls"]
    note(books.engine, [mended])

    assert [condition.failing for condition in much_later] == [True, True]
    assert much_later[0].facts["first_ids"] == [f"stray-{n}" for n in range(5)]
    assert waiting == [{"kind": "raised", "ended": "5"}]
    assert (beside_others.failing, mended.failing) == (True, False)
    assert all_clear(mended) == "Calls are billed again: 100.00 % of 305 since 2026-11-18 06:00 UTC"
    assert books.value("SELECT count(*) FROM incidents WHERE closed_at IS NULL") == 0


def test_stretch_without_calls_neither_begins_nor_ends_an_incident(books: Books) -> None:
    """Nothing ended, so nothing was proved; an incident of an older release does not say since when it is."""
    nothing = looked(books, RULE)["billed_calls"]
    note_condition(books.engine, "billed_calls", True, {"ended": 5, "billed": 0, "first_ids": []})
    still = looked(books, RULE)["billed_calls"]
    note(books.engine, [still])

    assert (nothing.failing, still.failing) == (None, None)
    assert books.value("SELECT count(*) FROM incidents WHERE closed_at IS NULL") == 1
