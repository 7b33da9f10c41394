"""One answer of Vapi's call list: a broken row is a finding and spoils no other."""

import itertools
from typing import Any

import msgspec
import pytest

from billing.vapi import ListedCall, UnreadableRow, read_page
from tests.payloads import body, content, encode

PAGE = content("vapi_list", "page")
ROW = PAGE[0]


def rows_of(*rows: Any) -> list[ListedCall | UnreadableRow]:
    """What is read of a page with these rows."""
    return read_page(encode(list(rows)))


def without(*keys: str) -> dict[str, Any]:
    """The row without some keys."""
    return {key: value for key, value in ROW.items() if key not in keys}


BROKEN: list[tuple[Any, str | None]] = [
    (None, None),
    (5, None),
    ("01a1a208", None),
    ([], None),
    ({}, None),
    (without("id"), None),
    ({**ROW, "id": None}, None),
    ({**ROW, "id": 5}, None),
    (without("createdAt"), ROW["id"]),
    ({**ROW, "createdAt": None}, ROW["id"]),
    ({**ROW, "createdAt": "2026-11-03T14:02:11.418"}, ROW["id"]),
    ({**ROW, "updatedAt": "soon"}, ROW["id"]),
    ({**ROW, "cost": "a lot"}, ROW["id"]),
    ({**ROW, "cost": "NaN"}, ROW["id"]),
    ({**ROW, "cost": 1e300}, ROW["id"]),
    ({**ROW, "cost": {"total": 1}}, ROW["id"]),
    ({**ROW, "startedAt": "2026-11-03T14:02:12.006"}, ROW["id"]),
    ({**ROW, "status": "ended", "endedAt": None}, ROW["id"]),
    ({**ROW, "status": "ended", "startedAt": "2027-01-01T00:00:00Z"}, ROW["id"]),
    ({**ROW, "assistantId": ["a"]}, ROW["id"]),
]


def test_page_of_recorded_shape_is_read_whole() -> None:
    """Each row with the fields that billing needs."""
    calls = read_page(body("vapi_list", "page"))

    assert [call.id for call in calls if isinstance(call, ListedCall)] == [row["id"] for row in PAGE]


def test_empty_page_has_no_rows() -> None:
    """The end of a window."""
    assert read_page(b"[]") == []


@pytest.mark.parametrize(("row", "call_id"), BROKEN)
def test_broken_row_is_a_finding_between_good_ones(row: Any, call_id: str | None) -> None:
    """It is named by its id, if it has one, and says what is wrong with it."""
    before, found, after = rows_of(PAGE[1], row, PAGE[2])

    assert isinstance(before, ListedCall)
    assert isinstance(after, ListedCall)
    assert isinstance(found, UnreadableRow)
    assert found.call_id == call_id
    assert found.problem


def test_broken_rows_in_any_place_spoil_no_other() -> None:
    """Order and number of the rows stay."""
    rows = list(
        itertools.chain.from_iterable((good, broken) for good, (broken, _) in zip(PAGE * 7, BROKEN, strict=False))
    )
    kinds = [type(row) for row in rows_of(*rows)]

    assert kinds == [ListedCall, UnreadableRow] * len(BROKEN)


@pytest.mark.parametrize(
    "row",
    [
        b'{"id": "c", "x": 1e999}',
        b'{"id": "c", "x": ' + b"9" * 5_000 + b"}",
        b'{"id": "\xff"}',
        b'{"id": "\\ud800"}',
        b'{"id": "c", "createdAt": "\\ud800"}',
        b'{"id": "c", "createdAt": 1e999}',
    ],
)
def test_row_with_what_no_decoder_reads_is_a_finding(row: bytes) -> None:
    """Numbers beyond all bounds and broken text stay within their row."""
    good = encode(ROW)

    kinds = [type(each) for each in read_page(b"[" + good + b"," + row + b"," + good + b"]")]

    assert kinds == [ListedCall, UnreadableRow, ListedCall]


@pytest.mark.parametrize("changes", [{"cost": None}, {"cost": "0.1884"}, {"cost": 1.83e-05}, {"future": {"a": [1]}}])
def test_row_with_unusual_but_readable_values_is_a_call(changes: dict[str, Any]) -> None:
    """Null, a decimal in quotes, an exponent, an unknown key."""
    (call,) = rows_of({**ROW, **changes})

    assert isinstance(call, ListedCall)
    assert call.ended_call().id == ROW["id"]


def test_row_whose_transcript_was_cut_in_the_middle_of_an_emoji_is_a_call() -> None:
    """The half of a surrogate pair that is left costs neither the row nor the page."""
    first, second = rows_of({**ROW, "transcript": "bye \ud83d"}, PAGE[1])

    assert isinstance(first, ListedCall)
    assert isinstance(second, ListedCall)


@pytest.mark.parametrize("status", ["in-progress", "queued", None, "state-of-the-future"])
def test_row_of_a_call_that_goes_on_needs_no_end(status: str | None) -> None:
    """Only what has ended must have one."""
    (call,) = rows_of({**without("endedAt"), "status": status})

    assert isinstance(call, ListedCall)


def test_row_of_a_call_that_never_connected_needs_no_times() -> None:
    """Ended, without start and end."""
    (call,) = rows_of({**without("startedAt", "endedAt", "costs", "costBreakdown"), "status": "ended", "cost": 0})

    assert isinstance(call, ListedCall)
    assert (call.ended_call().duration_ms, call.ended_call().provider_cost_micros) == (0, 0)


@pytest.mark.parametrize("answer", [b"", b"{}", b"null", b'{"results": []}', b"<html>521</html>", b"[{}", b"[1,]"])
def test_answer_that_is_no_array_is_refused_whole(answer: bytes) -> None:
    """An error page or an envelope is no list."""
    with pytest.raises(msgspec.DecodeError):
        read_page(answer)
