"""One answer of Vapi's call list: a broken row is a finding and spoils no other."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.call_frames import PROVIDER_COLUMNS
from billing.vapi import ListedCall, OddRow, UnreadableRow, read_page
from billing.vapi_page import COMPACTED_ROWS, CallColumns, created_before, ended_calls, read_columns
from tests.payloads import body, content, encode

PAGE = content("vapi_list", "page")
ROW = PAGE[0]


def rows_of(*rows: Any) -> list[ListedCall | OddRow | UnreadableRow]:
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
    assert isinstance(found, OddRow | UnreadableRow)
    assert (found.call.id if isinstance(found, OddRow) else found.call_id) == call_id
    assert found.problem


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"cost": "a lot"}, "cost"),
        ({"cost": 1e300}, "cost"),
        ({"startedAt": "noon"}, "started_at"),
        ({"endedAt": ["2026-11-03T14:02:12Z"]}, "ended_at"),
        ({"assistantId": ["a"]}, "assistant_id"),
        ({"endedReason": "nu\x00l"}, "ended_reason"),
        ({"endedReason": "x" * 256}, "ended_reason"),
        ({"startedAt": "0001-01-01T00:00:00+14:00"}, "started_at"),
    ],
)
def test_call_of_which_a_part_cannot_be_read_is_known_by_the_others(changes: dict[str, Any], lost: str) -> None:
    """It is over, so it is somebody's money: it can be held, and is not lost."""
    (found,) = rows_of({**ROW, "status": "ended", **changes})

    assert isinstance(found, OddRow)
    assert getattr(found.call, lost) is None
    whole = rows_of({**ROW, "status": "ended"})[0]
    assert msgspec.structs.replace(found.call, **{lost: getattr(whole, lost)}) == whole


ODD: list[Any] = [None, [], "x", 5, {"org_id": {}, "maxDurationSeconds": "long"}, {"org_id": True, "metadata": 5}]


@pytest.mark.parametrize(
    ("changes", "metadata", "seconds"),
    [
        ({"metadata": {"org_id": "acme", "tenant_id": "other"}}, "org_id=acme", None),
        ({"metadata": {"tenant_id": 7}}, "tenant_id=7", None),
        ({"assistantOverrides": {"metadata": {"organization_id": "o"}}}, "organization_id=o", None),
        ({"assistant": {"metadata": {"org_id": "a"}, "maxDurationSeconds": 60.0}}, "org_id=a", 60),
        (
            {
                "metadata": {"org_id": "first"},
                "assistantOverrides": {"metadata": {"org_id": "second"}, "maxDurationSeconds": 30},
                "assistant": {"maxDurationSeconds": 60},
            },
            "org_id=first", 30,
        ),
        *(({"metadata": odd}, None, None) for odd in ODD),
        *(({"assistant": odd}, None, None) for odd in ODD),
        ({"assistant": {"maxDurationSeconds": 1e9}}, None, None),
    ],
)  # fmt: skip
def test_row_says_whose_it_is_and_how_long_it_may_last_if_it_can(
    changes: dict[str, Any], metadata: str | None, seconds: int | None
) -> None:
    """Whatever somebody wrote there, it never spoils the call."""
    (call,) = rows_of({**ROW, **changes})

    assert isinstance(call, ListedCall)
    assert (call.tenant, call.max_duration_seconds) == (metadata, seconds)


def test_broken_rows_in_any_place_spoil_no_other() -> None:
    """Order and number of the rows stay."""
    rows = list(
        itertools.chain.from_iterable((good, broken) for good, (broken, _) in zip(PAGE * 7, BROKEN, strict=False))
    )
    broken = [not isinstance(row, ListedCall) for row in rows_of(*rows)]

    assert broken == [False, True] * len(BROKEN)


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


@pytest.mark.parametrize("status", ["deletion-failed", "not-found"])
def test_row_of_a_call_that_vapi_forgets_is_over_if_it_tells_when(status: str) -> None:
    """Only a call that is over has an end; without one nobody knows."""
    forgotten, unknown = rows_of({**ROW, "status": status}, {**without("endedAt"), "status": status})

    assert isinstance(forgotten, ListedCall)
    assert isinstance(unknown, ListedCall)
    assert (forgotten.is_over, unknown.is_over) == (True, False)


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


def frame_of(*pages: bytes) -> pd.DataFrame:
    """Pages as the night takes them."""
    columns = CallColumns()
    for page in pages:
        columns.add(read_columns(page))
    return columns.frame()


def table_as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Values of each row, None where there is none."""
    plain = frame.astype(object)
    return [
        {str(name): value for name, value in row.items()}
        for row in plain.where(plain.notna(), None).to_dict("records")
    ]


@pytest.mark.parametrize(("row", "call_id"), BROKEN)
def test_broken_row_is_a_row_of_the_table_with_its_problem(row: Any, call_id: str | None) -> None:
    """The same as row by row, and the good ones beside it are whole."""
    (unreadable,) = (found for found in rows_of(PAGE[1], row, PAGE[2]) if not isinstance(found, ListedCall))
    frame = frame_of(encode([PAGE[1], row, PAGE[2]]))

    broken = table_as_rows(frame[frame["problem"].notna()])
    assert [(each["call_id"], each["problem"]) for each in broken] == [(call_id, unreadable.problem)]
    assert set(frame["call_id"]) >= {PAGE[1]["id"], PAGE[2]["id"]}
    assert len(frame) == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": ""}, None),
        ({"id": "nu\x00l"}, "nul"),
        ({"endedReason": "nu\x00l"}, ROW["id"]),
        ({"createdAt": "9999-12-31T23:59:59-05:00"}, ROW["id"]),
        ({"updatedAt": "0001-01-01T00:00:00+05:00"}, ROW["id"]),
        ({"cost": 1000000000000.01}, ROW["id"]),
    ],
)
def test_value_that_the_books_could_not_hold_is_a_problem(changes: dict[str, Any], named: str | None) -> None:
    """Postgres has no NUL and no year 10000; neither may the table bring them."""
    frame = frame_of(encode([PAGE[1], {**ROW, **changes}]))
    broken = table_as_rows(frame[frame["problem"].notna()])

    assert [each["call_id"] for each in broken] == [named]


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=45))])
MOMENTS = st.builds(
    lambda micros, zone: (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).astimezone(zone),
    st.integers(0, 10**15),
    ZONES,
)
TEXTS = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8
)
CALLS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    id=TEXTS.filter(bool),
    createdAt=MOMENTS,
    updatedAt=MOMENTS,
    status=st.sampled_from(["ended", "in-progress", "deletion-failed", "not-found", None]),
    type=TEXTS,
    endedReason=TEXTS,
    assistantId=TEXTS,
    squadId=TEXTS,
    phoneNumberId=TEXTS,
    startedAt=st.none() | MOMENTS,
    endedAt=st.none() | MOMENTS,
    cost=st.none() | st.decimals(-5, 1_000, places=7),
)
ENCODER = msgspec.json.Encoder(decimal_format="number")


@settings(deadline=None, max_examples=40)
@given(calls=st.lists(CALLS, max_size=6))
def test_table_holds_what_the_rows_say(calls: list[dict[str, Any]]) -> None:
    """Whatever is listed, columns and rows agree to the microsecond and to the micro."""
    body = ENCODER.encode(calls)
    rows = read_page(body)
    frame = frame_of(body)
    readable = [row for row in rows if isinstance(row, ListedCall)]
    good = frame[frame["problem"].isna()]

    assert ended_calls(good) == [row.ended_call() for row in readable]
    assert table_as_rows(good[["updated_at"]]) == [{"updated_at": row.updated_at} for row in readable]
    assert [row["duration_ms"] for row in table_as_rows(good)] == [
        row.ended_call().duration_ms if row.is_over else None for row in readable
    ]
    assert sorted(table_as_rows(frame[frame["problem"].notna()]), key=str) == sorted(
        [
            {**dict.fromkeys(PROVIDER_COLUMNS), "call_id": row.call_id, "problem": row.problem}
            for row in rows
            if isinstance(row, UnreadableRow)
        ],
        key=str,
    )


def test_tables_of_many_pages_keep_each_text_once() -> None:
    """Beyond the size at which pages are put together, with texts that only some of them have."""
    squads = [{**ROW, "squadId": f"squad-{number}"} for number in range(3)]
    page = encode(squads * (COMPACTED_ROWS // 3 // 4 + 1))
    frame = frame_of(page, page, page, page, encode([{**ROW, "squadId": "another"}]), b"[]")

    assert len(frame) == len(squads) * (COMPACTED_ROWS // 3 // 4 + 1) * 4 + 1
    assert sorted(frame["squad_id"].cat.categories) == ["another", "squad-0", "squad-1", "squad-2"]
    assert dict(frame.dtypes.astype(str)) == dict(PROVIDER_COLUMNS)


def test_calls_created_at_that_moment_are_not_before_it() -> None:
    """Half-open, like all windows."""
    rows = [{**ROW, "id": str(second), "createdAt": f"2026-11-03T12:00:0{second}Z"} for second in range(3)]
    kept = created_before(read_columns(encode(rows)), datetime(2026, 11, 3, 12, 0, 1, tzinfo=UTC))

    assert kept.column("call_id").to_pylist() == ["0"]


def test_transcript_with_an_escaped_nul_costs_no_row() -> None:
    """Only what is kept must be storable."""
    frame = frame_of(encode([{**ROW, "transcript": "a\x00b"}]))

    assert frame["problem"].isna().all()
