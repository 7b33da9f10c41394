"""Days whose calls wait because a list was not complete."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from billing import runs
from billing.figures import Window
from billing.rules.held_billing import RULE
from billing.runs import Order
from tests.books import Books

from .looking import NOW, all_clear, looked, written

DAY = timedelta(days=1)


def compared(books: Books, as_of: datetime, *parts: tuple[datetime, datetime, bool], **facts: Any) -> None:
    """A run that listed these parts, each with whether its calls were held."""
    run = {"state": "completed", "kind": "night", "dry_run": False, "organization_id": None, **facts}
    completeness = [
        {
            "start": start.isoformat(),
            "end": end.isoformat(),
            "verdict": "incomplete" if held else "complete",
            "held": held,
        }
        for start, end, held in parts
    ]
    books.value(
        "INSERT INTO reconciliation_runs (window_from, window_to, as_of, completeness, state, kind, dry_run,"
        " organization_id) VALUES (:as_of - interval '1 day', :as_of, :as_of, CAST(:completeness AS jsonb), :state,"
        " :kind, :dry_run, :organization_id) RETURNING 1",
        as_of=as_of,
        completeness=json.dumps(completeness),
        **run,
    )


def days_ago(start: float, end: float, *, held: bool) -> tuple[datetime, datetime, bool]:
    """A part of the list."""
    return NOW - start * DAY, NOW - end * DAY, held


def test_day_is_held_until_a_later_night_has_listed_all_of_it(books: Books) -> None:
    """In one piece or in several."""
    compared(books, NOW - 2 * DAY, days_ago(4, 3, held=False), days_ago(3, 2, held=True))
    first = looked(books, RULE)["held_billing"]
    compared(books, NOW - DAY, days_ago(2.5, 1.5, held=False))
    half = looked(books, RULE)["held_billing"]
    compared(books, NOW, days_ago(3.5, 2.5, held=False))
    over = looked(books, RULE)["held_billing"]

    assert (first.failing, first.severity, first.facts["days"]) == (True, "warning", 1)
    assert "Billing of 1 day is held" in written(first)
    assert "COMPLETENESS_STOPS_BILLING" in written(first)
    assert half.failing
    assert (over.failing, over.measured) == (False, "0 days held")
    assert all_clear(over) == "Vapi's list is complete again: no day's billing is held"


@pytest.mark.parametrize("facts", [{"dry_run": True}, {"state": "failed"}, {"kind": "recent"}])
def test_what_books_nothing_holds_nothing(books: Books, facts: dict[str, Any]) -> None:
    """A rehearsal, a run that failed, and a light pass, which the night makes up for."""
    compared(books, NOW, days_ago(1, 0, held=True), **facts)

    assert looked(books, RULE)["held_billing"].failing is False


def test_run_of_one_organization_releases_no_day(books: Books) -> None:
    """It bills its own calls alone."""
    compared(books, NOW - DAY, days_ago(2, 1, held=True))
    compared(books, NOW, days_ago(2, 1, held=False), organization_id=books.organization())

    assert looked(books, RULE)["held_billing"].failing


def test_days_that_the_provider_is_about_to_forget_are_critical(books: Books) -> None:
    """Those that it has forgotten are no longer waited for."""
    compared(books, NOW - 12 * DAY, days_ago(12, 11, held=True))
    soon = looked(books, RULE)["held_billing"]
    gone = looked(books, RULE, NOW + 4 * DAY)["held_billing"]

    assert (soon.failing, soon.severity) == (True, "critical")
    assert gone.failing is False


def test_night_lists_from_the_oldest_day_that_is_held(books: Books) -> None:
    """However long ago, as long as the provider keeps it; other runs keep to what they were asked for."""
    compared(books, NOW - 9 * DAY, days_ago(10, 9, held=True))
    window = Window(NOW - DAY, NOW, NOW - 4 * DAY)
    listed = {
        kind: runs.start_run(books.engine, uuid4(), Order(window, NOW, kind), None, NOW - 14 * DAY).window.listed_from
        for kind in ("night", "recent", "backfill")
    }

    assert listed == {"night": NOW - 10 * DAY, "recent": NOW - 4 * DAY, "backfill": NOW - 4 * DAY}
