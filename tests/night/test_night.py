"""One night as data: which windows are read, and what follows from the comparison."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from billing.errors import PermanentError
from billing.night import compare, findings, listings, missing_traits, night_window, of_lost_webhooks
from billing.reconcile import SETTLING, known_frame, provider_frame
from billing.runs import Recovered
from billing.vapi import ListedCall, UnreadableRow

from .listed import AS_OF, known, listed

SCHEDULED = datetime(2026, 11, 4, 3, tzinfo=UTC)
DAY = timedelta(days=1)


def test_window_is_the_day_before_the_scheduled_time() -> None:
    """However late the run begins; it leaves out what may still move, and the next night begins there."""
    window = night_window(None, None, SCHEDULED)
    next_window = night_window(None, None, SCHEDULED + DAY)

    assert (window.start, window.end) == (SCHEDULED - SETTLING - DAY, SCHEDULED - SETTLING)
    assert window.listed_from == window.start - timedelta(hours=72)
    assert next_window.start == window.end


def test_window_of_a_person_is_taken_in_any_zone() -> None:
    """Times with an offset mean the same moments in UTC, on whole milliseconds."""
    tokyo = timezone(timedelta(hours=9))
    window = night_window(datetime(2026, 11, 3, 9, tzinfo=tokyo), SCHEDULED + timedelta(microseconds=999), SCHEDULED)

    assert (window.start, window.end) == (datetime(2026, 11, 3, tzinfo=UTC), SCHEDULED)
    assert window.start.tzinfo is UTC


@pytest.mark.parametrize("length", [timedelta(0), timedelta(microseconds=10), -DAY])
def test_empty_window_is_refused(length: timedelta) -> None:
    """The message shows both ends."""
    with pytest.raises(PermanentError, match="the window is empty: 2026-11-04 03:00"):
        night_window(SCHEDULED, SCHEDULED + length, SCHEDULED)


@pytest.mark.parametrize("length", [timedelta(hours=24), timedelta(hours=1), timedelta(days=3, hours=5)])
def test_listings_cover_window_and_look_back_without_gap(length: timedelta) -> None:
    """Day by day by creation, each beginning where the last one ended, and the window once by change."""
    window = night_window(SCHEDULED - length, SCHEDULED, SCHEDULED)
    *by_creation, by_change = listings(window)

    assert by_creation[0][1] == window.listed_from
    assert by_creation[-1][2] == window.end
    assert [start for _, start, _ in by_creation[1:]] == [end for _, _, end in by_creation[:-1]]
    assert all(end - start <= DAY for _, start, end in by_creation)
    assert by_change == ("updatedAt", window.start, window.end)


def test_comparison_says_what_is_to_be_done() -> None:
    """Missing and unconnected calls are to be recorded, drifted ones corrected, the rest is counted or named."""
    listed_rows: list[ListedCall | UnreadableRow] = [
        listed("same"),
        listed("lost", assistant_id="asst"),
        listed("unanswered", None),
        listed("drifted", 90),
        listed("running", status="in-progress"),
        UnreadableRow("broken", "no time"),
        UnreadableRow("broken", "no time"),
    ]
    calls = [row for row in listed_rows if isinstance(row, ListedCall)]
    ours = [known("same"), known("drifted"), known("phantom")]
    window = night_window(AS_OF - DAY, AS_OF, AS_OF)
    compared = compare(listed_rows, provider_frame(calls), known_frame(ours), set(), window, AS_OF)
    recovered = [
        Recovered("lost", None, "unattributed", None, known=False),
        Recovered("unanswered", None, "free", 0, known=False),
    ]
    found = {
        (finding.kind, finding.call_id, finding.amount_micros, finding.outcome)
        for finding in findings(compared, recovered, {"drifted": 350_000})
    }

    assert {call.id for call in compared.missing} == {"lost", "unanswered"}
    assert [call.id for call in compared.drifted] == ["drifted"]
    assert compared.counts == {
        "matched": 1,
        "missing": 1,
        "unconnected": 1,
        "drift": 1,
        "phantom": 1,
        "open": 1,
        "unreadable": 1,
    }
    assert (compared.by_webhook, compared.ended) == (2, 3)
    assert found == {
        ("unattributed", "lost", None, "unattributed"),
        ("unconnected", "unanswered", 0, "free"),
        ("drift", "drifted", 350_000, "corrected"),
        ("phantom", "phantom", None, None),
        ("unreadable", "broken", None, None),
    }
    assert [call.call_id for call in of_lost_webhooks(compared, recovered)] == ["lost"]
    assert [row["assistant_id"] for row in missing_traits(compared)] == ["asst"]


def test_call_listed_twice_is_recorded_as_last_updated() -> None:
    """Both passes of the list may show a call, the stale version last."""
    early, late = listed(seconds=60), listed(seconds=90, updated_at=AS_OF - timedelta(hours=1))
    window = night_window(AS_OF - DAY, AS_OF, AS_OF)
    compared = compare([late, early], provider_frame([late, early]), known_frame([]), set(), window, AS_OF)

    assert compared.missing == [late.ended_call()]
