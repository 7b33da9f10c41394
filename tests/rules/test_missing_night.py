"""Nights that did not happen."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from billing.rules.missing_night import RULE
from tests.books import Books

from .looking import NOW, all_clear, looked, written

MIDNIGHT = NOW.replace(hour=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def begun(books: Books, owner: Books) -> Books:
    """Books that are open for a month."""
    books.organization()
    owner.rows("UPDATE organizations SET created_at = :at RETURNING 1", at=NOW - 30 * DAY)
    return books


def ran(books: Books, window_to: datetime, **facts: Any) -> None:
    """A run that ended soon after its window."""
    run = {"state": "completed", "kind": "night", "dry_run": False, "error": None, "organization_id": None, **facts}
    books.value(
        "INSERT INTO reconciliation_runs"
        " (window_from, window_to, started_at, finished_at, state, kind, dry_run, error, organization_id)"
        " VALUES (:to - interval '1 day', :to, :to, :to + interval '20 minutes', :state, :kind, :dry_run, :error,"
        " :organization_id)"
        " RETURNING 1",
        to=window_to,
        **run,
    )


@pytest.mark.parametrize(
    ("now", "missing"),
    [(MIDNIGHT + 3.9 * HOUR, False), (MIDNIGHT + 4 * HOUR, True), (MIDNIGHT + 23 * HOUR, True)],
)
def test_night_is_missed_from_four_o_clock_on(begun: Books, now: datetime, missing: bool) -> None:
    """Before that, the one of the day before counts."""
    ran(begun, MIDNIGHT - DAY + 2.75 * HOUR)
    condition = looked(begun, RULE, now)["missing_night"]

    assert (condition.failing, condition.severity) == (missing, "warning")
    if missing:
        assert "The night of 2026-11-18 has not compared the books" in written(condition)


def test_night_that_completed_is_not_missed(begun: Books) -> None:
    """Until the next one is due."""
    ran(begun, MIDNIGHT + 2.75 * HOUR)
    condition = looked(begun, RULE)["missing_night"]

    assert (condition.failing, condition.measured) == (False, "compared up to 2026-11-18 02:45 UTC")
    assert all_clear(condition).endswith("up to 2026-11-18 02:45 UTC")
    assert looked(begun, RULE, NOW + DAY)["missing_night"].failing


@pytest.mark.parametrize(
    "facts",
    [{"state": "failed", "error": "Vapi answered 401"}, {"state": "running"}, {"dry_run": True}, {"kind": "recent"}],
    ids=["failed", "running", "rehearsal", "light pass"],
)
def test_what_is_no_completed_night_does_not_count(begun: Books, facts: dict[str, Any]) -> None:
    """And why it failed is in the message."""
    ran(begun, MIDNIGHT - DAY + 2.75 * HOUR)
    ran(begun, MIDNIGHT + 2.75 * HOUR, **facts)
    condition = looked(begun, RULE)["missing_night"]

    assert condition.failing
    assert ("Vapi answered 401" in written(condition)) == (facts.get("state") == "failed")


def test_night_of_one_organization_is_not_the_night(begun: Books) -> None:
    """The calls of all the others were compared with nothing."""
    ran(begun, MIDNIGHT - DAY + 2.75 * HOUR)
    ran(begun, MIDNIGHT + 2.75 * HOUR, organization_id=begun.organization("Acme"))

    assert looked(begun, RULE)["missing_night"].failing


def test_nights_missed_for_two_days_are_critical(begun: Books) -> None:
    """Calls are about to leave the stretch that a night looks back."""
    ran(begun, MIDNIGHT - 2 * DAY + 2.75 * HOUR)

    assert looked(begun, RULE)["missing_night"].severity == "critical"


def test_new_installation_has_not_missed_anything(books: Books, owner: Books) -> None:
    """Neither without organizations nor on its first day."""
    empty = looked(books, RULE)["missing_night"].failing
    books.organization()
    owner.rows("UPDATE organizations SET created_at = :at RETURNING 1", at=NOW - DAY)

    assert empty is False
    assert looked(books, RULE)["missing_night"].failing is False
