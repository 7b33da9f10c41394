"""One call that cannot be billed does not keep the others from it, and is a finding."""

import json
from datetime import timedelta

import pytest
from msgspec.structs import replace as changed
from sqlalchemy import Engine

from billing import runs
from billing.vapi import EndedCall, UnreadableRow, read_page
from tests.books import Books

from .test_runs import acme, begin, ended, outcomes


def test_refused_call_is_told_and_the_others_are_billed(books: Books, engine: Engine) -> None:
    """Found by halves, wherever it stands among them."""
    acme(books)
    calls = [ended(f"good-{number}") for number in range(6)]
    calls.insert(4, changed(ended("bad"), ended_reason="\x00"))

    recovered = runs.record_missing(engine, calls, begin(engine), dry_run=False)

    assert outcomes(recovered) == {**dict.fromkeys((call.id for call in calls), "settled"), "bad": "refused"}
    assert [call.problem is not None for call in recovered] == [call.id == "bad" for call in calls]
    assert books.value("SELECT count(*) FROM charges") == 6


@pytest.mark.parametrize("microseconds", [499, 500, 501, 1_499, 1_500, 2_500])
def test_duration_is_rounded_as_the_books_do(books: Books, microseconds: int) -> None:
    """Half milliseconds, too, or the same difference would be found every night."""
    start = ended("x").created_at
    call = EndedCall("x", start, started_at=start, ended_at=start + timedelta(microseconds=microseconds))

    in_sql = books.value("SELECT call_duration_ms(:start, :end)", start=call.started_at, end=call.ended_at)

    assert in_sql == call.duration_ms


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a\x00"},
        {"endedReason": "\x00"},
        {"createdAt": "0001-01-01T00:00:00+14:00"},
        {"updatedAt": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_row_that_the_books_cannot_hold_is_unreadable(change: dict[str, str]) -> None:
    """It becomes a finding, and the row beside it is read."""
    good = {"id": "b", "createdAt": "2026-11-03T00:00:00Z", "updatedAt": "2026-11-03T00:00:00Z"}

    first, second = read_page(json.dumps([good | change, good]).encode())

    assert isinstance(first, UnreadableRow)
    assert not isinstance(second, UnreadableRow)
