"""Providers that are not heard from."""

from collections.abc import Iterable
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


@pytest.mark.parametrize(
    "days",
    [[1, 2, 3, 4, 5, 6, 7], [1, 2, 4, 5, 6, 7], [7, 14, 21], [7, 21, 28]],
    ids=["every day", "every day but that of an outage", "every Wednesday", "every Wednesday but that of an outage"],
)
def test_silence_where_there_always_were_events_is_found(books: Books, owner: Books, days: list[int]) -> None:
    """On 6 of the last 7 days, or on the same weekday of 3 of the last 4 weeks."""
    usual(owner, days)
    receive(owner, "vapi", 1, HOUR)
    condition = looked(books, RULE)["silence:vapi"]

    assert (condition.failing, condition.facts["minutes"]) == (True, 60)
    assert "No vapi event for 1 h 0 min" in written(condition)


@pytest.mark.parametrize(
    ("days", "count"),
    [([1, 2, 3, 4, 5, 6], 99), ([7, 14], 99), ([1, 2, 3, 4, 5, 6, 7], 9), ([], 0)],
    ids=["not on this weekday", "too few weeks", "too few events", "no history"],
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
    assert condition.facts["last_at"] == "2026-11-11 11:30 UTC"


def hear(owner: Books, days: Iterable[int], hours: str) -> None:
    """One event of Stripe's at each of these hours (a comma between them), so many days ago."""
    owner.value(
        "WITH heard AS (INSERT INTO events (provider, delivery_key, type, state, received_at, finished_at)"
        " SELECT 'stripe', gen_random_uuid()::text, 't', 'done', at, at"
        " FROM unnest(CAST(:days AS integer[])) AS ago (days), unnest(string_to_array(:hours, ',')) AS day (hour),"
        " LATERAL (SELECT date_trunc('day', CAST(:now AS timestamptz), 'UTC') - days * interval '1 day'"
        " + hour::numeric::float8 * interval '1 hour' AS at) AS times RETURNING 1) SELECT count(*) FROM heard",
        days=list(days),
        hours=hours,
        now=NOW,
    )


def stripe(books: Books, silent: timedelta, since: timedelta) -> bool | None:
    """Whether Stripe is too silent, so long after its last event, which came so long before noon of Wednesday."""
    return looked(books, RULE, NOW - since + silent)["silence:stripe"].failing


@pytest.mark.parametrize("outage", [[], [9, 10, 11, 12, 13]], ids=["never", "last week"])
def test_three_payments_a_day_are_missed_after_more_than_a_night(
    books: Books, owner: Books, outage: list[int]
) -> None:
    """The usual pause is from 18:00 to 09:00; an outage before does not make this one usual."""
    hear(owner, [day for day in range(1, 29) if day not in outage], "9,13,18")
    condition = looked(books, RULE, NOW + 13 * HOUR)["silence:stripe"]

    assert stripe(books, 16 * HOUR, 18 * HOUR) is None
    assert stripe(books, 29 * HOUR, 18 * HOUR) is None
    assert stripe(books, 31 * HOUR, 18 * HOUR) is True
    assert "No stripe event for 31 h 0 min, which is longer than usual" in written(condition)
    assert "15 h 0 min" in written(condition)


def test_weekend_is_a_usual_pause_and_a_silent_week_is_not(books: Books, owner: Books) -> None:
    """Payments from Monday to Friday, as on Monday morning nobody has paid yet; today is Wednesday."""
    hear(owner, [day for day in range(5, 33) if (NOW - day * DAY).weekday() < 5], "9,18")
    friday = 5 * DAY - 6 * HOUR

    assert stripe(books, 63 * HOUR, friday) is None
    assert stripe(books, 125 * HOUR, friday) is None
    assert stripe(books, 127 * HOUR, friday) is True


def test_busy_days_have_quiet_nights(books: Books, owner: Books) -> None:
    """Hundreds of events a day, none at night: the night is none of an outage, a morning without any is one."""
    hours = ",".join(f"{hour + sixth / 6:.3f}" for hour in range(8, 20) for sixth in range(6))
    hear(owner, range(1, 30), hours)
    evening = NOW - 16 * HOUR

    assert looked(books, RULE, evening + 10 * HOUR)["silence:stripe"].failing is None
    assert looked(books, RULE, evening + 15 * HOUR)["silence:stripe"].failing is True


def test_few_pauses_are_no_history(books: Books, owner: Books) -> None:
    """Of an installation of five days nobody knows what is usual."""
    hear(owner, range(4, 9), "9,13,18")

    assert stripe(books, 80 * HOUR, 4 * DAY - 6 * HOUR) is None
