"""What the books could not hold, and how durations are rounded, is the same on both sides."""

import json
from datetime import timedelta

import pytest

from billing.vapi import EndedCall
from billing.vapi_page import read_columns
from tests.books import Books

from .listed import CREATED


@pytest.mark.parametrize("microseconds", [499, 500, 501, 1_499, 1_500, 2_500])
def test_duration_is_rounded_as_the_books_do(books: Books, microseconds: int) -> None:
    """Half milliseconds, too, or the same difference would be found every night."""
    call = EndedCall("x", CREATED, started_at=CREATED, ended_at=CREATED + timedelta(microseconds=microseconds))

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
    rows = read_columns(json.dumps([good | change, good]).encode()).to_pylist()

    assert sorted(row["problem"] is None for row in rows) == [False, True]
