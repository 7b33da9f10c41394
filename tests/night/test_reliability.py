"""The share of ended calls that told us by webhook: what counts, what does not, and what never improves it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from billing.messages import Night
from billing.reconcile import reliability
from billing.runs import Window
from billing.vapi import ListedCall

from .listed import differences, known, listed

START = datetime(2026, 11, 3, tzinfo=UTC)
END = datetime(2026, 11, 4, tzinfo=UTC)
THRESHOLD = Decimal("0.95")


def measured(
    theirs: list[ListedCall], ours: list[dict[str, Any]], reported: set[str] | None = None
) -> tuple[int, int]:
    """By webhook, and of how many."""
    return reliability(differences(theirs, ours), reported or set(), START, END)


def night(by_webhook: int, ended: int) -> Night:
    """A night with these figures."""
    return Night(
        run_id=UUID(int=1),
        window=Window(START, END, START),
        dry_run=False,
        counts={},
        ended=ended,
        by_webhook=by_webhook,
        recovered=[],
        corrected_micros=0,
        organizations={},
        cause=None,
        run_url=None,
    )


@pytest.mark.parametrize(
    ("by_webhook", "ended", "alerts"),
    [(95, 100, False), (94, 100, True), (949_999, 1_000_000, True), (950_000, 1_000_000, False), (0, 1, True)],
)
def test_alert_is_due_below_the_threshold_alone(by_webhook: int, ended: int, alerts: bool) -> None:
    """Exactly 95 % is well; one call in a million below it is not."""
    assert night(by_webhook, ended).needs_alert(THRESHOLD) is alerts


def test_no_calls_are_no_ratio_and_no_alarm() -> None:
    """A quiet day divides nothing by nothing."""
    quiet = night(*measured([], []))

    assert quiet.ratio is None
    assert not quiet.needs_alert(THRESHOLD)


def test_matched_and_drifted_calls_count_as_by_webhook() -> None:
    """A corrected duration says nothing about the webhook; a missing call does."""
    theirs = [listed("same"), listed("drifted", 90), listed("lost")]

    assert measured(theirs, [known("same"), known("drifted")]) == (2, 3)


def test_call_that_a_night_recovered_never_counts_as_by_webhook() -> None:
    """After the repair the books know the call, and the ratio stays what it was."""
    theirs = [listed("told"), listed("lost")]
    before = measured(theirs, [known("told")])

    assert measured(theirs, [known("told"), known("lost", by_webhook=False)]) == before == (1, 2)


def test_report_that_waits_in_the_inbox_counts_as_arrived() -> None:
    """The webhook did its duty when it was stored, even if nobody has applied it yet."""
    assert measured([listed("waits"), listed("lost")], [], {"waits", "elsewhere"}) == (1, 2)


def test_calls_without_a_due_report_do_not_count() -> None:
    """Never connected, not over, or known to us alone: nobody expects a report of these."""
    theirs = [listed("unconnected", None), listed("running", status="in-progress")]

    assert measured(theirs, [known("phantom")]) == (0, 0)


@pytest.mark.parametrize(
    ("ended_at", "counted"),
    [
        (START - timedelta(milliseconds=1), 0),
        (START, 1),
        (END - timedelta(milliseconds=1), 1),
        (END, 0),
    ],
)
def test_window_is_half_open_on_the_end_of_the_call(ended_at: datetime, counted: int) -> None:
    """Windows that follow each other count each call once, by when it ended."""
    call = listed(seconds=60, created_at=ended_at - timedelta(seconds=65))

    assert measured([call], [known(created_at=call.created_at)]) == (counted, counted)
