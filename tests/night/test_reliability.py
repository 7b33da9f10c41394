"""The share of ended calls that told us by webhook: what counts, what does not, and what never improves it."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from billing.figures import GroupReliability, Reliability
from billing.reliability import by_group, lost_calls, measure
from billing.vapi import ListedCall

from .listed import ACME, AS_OF, CREATED, GLOBEX, RETENTION, differences, known, listed, route

routed = partial(listed, assistant_id="asst")
START = datetime(2026, 11, 3, tzinfo=UTC)
END = datetime(2026, 11, 4, tzinfo=UTC)


def measured(
    theirs: list[ListedCall], ours: list[dict[str, Any]], reported: set[str] | None = None
) -> tuple[int, int]:
    """By webhook, and of how many."""
    found = measure(differences(theirs, ours), reported or set(), START, END)
    return found.by_webhook, found.ended


def test_no_calls_are_no_ratio() -> None:
    """A quiet day divides nothing by nothing."""
    assert measure(differences([], []), set(), START, END) == Reliability(0, 0)
    assert by_group(differences([], []), set(), START, END, "assistant_id", {}) == []


def test_known_calls_count_as_by_webhook_whatever_became_of_them() -> None:
    """A corrected duration says nothing about the webhook, and neither does an organization that nobody knows."""
    theirs = [routed("same"), routed("drifted", 90), listed("nobody's"), routed("lost"), listed("lost and nobody's")]

    assert measured(theirs, [known("same"), known("drifted"), known("nobody's", organization_id=None)]) == (3, 5)


def test_repair_of_the_night_does_not_improve_its_ratio() -> None:
    """After it the books know the call, and a second run finds the same ratio."""
    theirs = [routed("told"), routed("lost")]
    before = measured(theirs, [known("told")])

    assert measured(theirs, [known("told"), known("lost", by_webhook=False)]) == before == (1, 2)


def test_webhook_that_comes_after_the_repair_does_not_improve_it_either() -> None:
    """How a call was first seen is kept; only of calls that nobody has seen does the inbox know more."""
    theirs = [routed("told"), routed("late")]
    ours = [known("told"), known("late", by_webhook=False)]

    assert measured(theirs, ours, {"late", "told"}) == (1, 2)


def test_report_that_waits_in_the_inbox_counts_as_arrived() -> None:
    """The webhook did its duty when it was stored, even if nobody has applied it yet."""
    assert measured([routed("waits"), routed("lost")], [], {"waits", "elsewhere"}) == (1, 2)


def test_calls_without_a_due_report_do_not_count() -> None:
    """Never connected, not over, or listed a second time: nobody expects a report of these."""
    unanswered = structs.replace(routed("unanswered"), started_at=None)
    theirs = [routed("unconnected", None), routed("running", status="in-progress"), routed("twice"), routed("twice")]
    ours = [known("gone", None), known("unanswered", None), known("twice")]

    assert measured([*theirs, unanswered], ours) == (1, 1)


@pytest.mark.parametrize("age", [timedelta(0), RETENTION])
def test_call_that_the_provider_has_deleted_since_keeps_counting(age: timedelta) -> None:
    """By the books, which know when it ended, through which assistant, and how it was first seen."""
    start, end, created_at = START - age, END - age, CREATED - age
    calls = [known(name, by_webhook=name == "told", created_at=created_at) for name in ("told", "found")]
    ours = [call | {"assistant_id": "asst"} for call in calls]
    seen = [routed(name, created_at=created_at) for name in ("told", "found")]
    before, after = differences(seen, ours), differences([], ours)

    assert measure(before, set(), start, end) == measure(after, set(), start, end) == Reliability(1, 2)
    for column in ("organization_id", "assistant_id"):
        assert by_group(after, set(), start, end, column, {}) == by_group(before, set(), start, end, column, {})


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
    """Windows that follow each other count each call once, by when the provider says that it ended."""
    call = routed(seconds=60, created_at=ended_at - timedelta(seconds=65))

    assert measured([call], [known(created_at=AS_OF)]) == (counted, counted)


def test_lost_calls_are_those_that_the_ratio_misses() -> None:
    """Whether this night finds them or an earlier one did."""
    theirs = [routed("told"), routed("lost"), routed("waits"), listed("nobody's"), routed("found before")]
    found = differences(theirs, [known("told"), known("found before", by_webhook=False)])
    lost = lost_calls(found, {"waits"}, START, END)

    assert lost["call_id"].tolist() == ["lost", "nobody's", "found before"]
    assert list(lost.columns) == list(found.columns)
    assert measure(found, {"waits"}, START, END).lost == len(lost)


def test_groups_come_worst_first_and_add_up() -> None:
    """Of equal ratios the larger group first; whose organization is not known has a line of its own."""
    routes = [route("asst"), route("theirs", GLOBEX), route("third", "third-organization")]
    theirs = [
        *(routed(f"acme-{number}") for number in range(4)),
        *(listed(f"globex-{number}", assistant_id="theirs") for number in range(2)),
        *(listed(f"third-{number}", assistant_id="third") for number in range(4)),
        listed("nobody's"),
    ]
    ours = [known(name) for name in ("acme-0", "acme-1", "acme-2")]
    ours += [known(name, organization_id=GLOBEX) for name in ("globex-0",)]
    ours += [known(name, organization_id="third-organization") for name in ("third-0", "third-1")]
    found = differences(theirs, ours, routes)
    groups = by_group(found, set(), START, END, "organization_id", {ACME: "Acme", GLOBEX: "Globex"})

    assert groups == [
        GroupReliability("unknown", Reliability(0, 1)),
        GroupReliability("third-organization", Reliability(2, 4)),
        GroupReliability("Globex", Reliability(1, 2)),
        GroupReliability("Acme", Reliability(3, 4)),
    ]
    assert [group.name for group in by_group(found, set(), START, END, "assistant_id", {})] == [
        "unknown",
        "third",
        "theirs",
        "asst",
    ]
