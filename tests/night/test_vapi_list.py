"""The provider's list is read completely and once, although it has neither pages nor a cursor."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pandas as pd
import pytest

from billing.call_frames import PROVIDER_COLUMNS
from billing.process import NotConfigured
from billing.settings import Settings
from billing.vapi_list import MAX_PAGE_SIZE, MILLISECOND, Clock, TooManyCallsAtOnce
from billing.vapi_page import ended_calls
from calltally.sandbox.server import RunningSandbox

from .listing import DAY, NEXT_DAY, each_once, ids, place, place_at, read, requests


def test_short_window_takes_one_request(sandbox: RunningSandbox, settings: Settings) -> None:
    """An answer below the limit is known to be complete."""
    calls = place(sandbox, 99)

    assert ids(read(settings)) == each_once(calls)
    assert len(requests(sandbox)) == 1


@pytest.mark.parametrize("count", [100, 250, 3_000])
def test_full_answer_is_read_again_in_pieces(sandbox: RunningSandbox, settings: Settings, count: int) -> None:
    """A full page may have been cut, even if it was not: all of it is asked for again."""
    calls = place(sandbox, count, tie_share=0.2)

    assert ids(read(settings)) == each_once(calls)
    assert len(requests(sandbox)) > 2
    assert not [request for request in requests(sandbox) if "page=" in request]


@pytest.mark.parametrize("clock", ["createdAt", "updatedAt"])
@pytest.mark.parametrize("count", [100, 350])
def test_ties_on_one_millisecond_are_all_read(
    sandbox: RunningSandbox, settings: Settings, clock: Clock, count: int
) -> None:
    """More calls in one millisecond than a page holds are asked for with the largest page."""
    calls = place(sandbox, count, start=DAY, end=DAY + MILLISECOND, never_connected_share=0.0)

    assert ids(read(settings, clock)) == each_once(calls)


@pytest.mark.parametrize("count", [MAX_PAGE_SIZE, MAX_PAGE_SIZE + 1])
def test_more_ties_than_any_answer_holds_are_refused(sandbox: RunningSandbox, settings: Settings, count: int) -> None:
    """A full answer of the largest size may have been cut; the message says which millisecond it is."""
    place(sandbox, count, start=DAY, end=DAY + MILLISECOND)

    with pytest.raises(TooManyCallsAtOnce, match=r"2026-11-03T00:00:00\.000Z"):
        read(settings)


def test_burst_in_a_quiet_day_is_found(sandbox: RunningSandbox, settings: Settings) -> None:
    """Bulk dialling puts hundreds of calls within a second of an otherwise empty day."""
    noon = DAY + timedelta(hours=12)
    calls = place(sandbox, 900, start=noon, end=noon + timedelta(seconds=1)) + place(sandbox, 5)

    assert ids(read(settings)) == each_once(calls)
    assert len(requests(sandbox)) < 100


def test_window_holds_its_start_and_not_its_end(sandbox: RunningSandbox, settings: Settings) -> None:
    """Windows that follow each other read each call once."""
    before, first, _ = place_at(sandbox, DAY - MILLISECOND, DAY, NEXT_DAY)

    assert ids(read(settings)) == Counter([first.id])
    assert ids(read(settings, start=DAY - MILLISECOND, end=DAY)) == Counter([before.id])


def test_empty_window_asks_nothing(sandbox: RunningSandbox, settings: Settings) -> None:
    """It has a table of its own all the same."""
    frame = read(settings, end=DAY)

    assert dict(frame.dtypes.astype(str)) == dict(PROVIDER_COLUMNS)
    assert (len(frame), requests(sandbox)) == (0, [])


def test_table_has_the_types_of_the_night(sandbox: RunningSandbox, settings: Settings) -> None:
    """Exactly those, whether a column has values or not."""
    place(sandbox, 10)

    assert dict(read(settings).dtypes.astype(str)) == dict(PROVIDER_COLUMNS)


def test_table_agrees_with_the_calls(sandbox: RunningSandbox, settings: Settings) -> None:
    """Times, durations and texts are those of the provider, whichever piece they came in."""
    calls = {call.id: call for call in place(sandbox, 300, in_progress=5)}
    frame = read(settings)

    for row in frame.itertuples():
        call = calls[str(row.call_id)]
        running = call.status != "ended"
        assert (row.status, row.assistant_id) == (call.status, call.route.assistant_id)
        assert row.created_at.timestamp() == call.created_at_ms / 1000  # type: ignore[union-attr]
        assert row.updated_at.timestamp() == call.updated_at_ms / 1000  # type: ignore[union-attr]
        assert (row.duration_ms is pd.NA) == running
        assert running or row.duration_ms == (call.duration_ms or 0)


def test_progress_grows_to_the_whole_window(sandbox: RunningSandbox, settings: Settings) -> None:
    """Each piece is told of once it is complete."""
    place(sandbox, 500)
    told: list[tuple[timedelta, int]] = []

    read(settings, on_progress=lambda covered, calls: told.append((covered, calls)))

    assert told[-1] == (timedelta(days=1), 500)
    assert all(earlier[0] < later[0] and earlier[1] <= later[1] for earlier, later in pairwise(told))


@pytest.mark.parametrize(
    "row",
    [
        "no object",
        None,
        {},
        {"id": 5},
        {"id": "without-times"},
        {"id": "naive", "createdAt": "2026-11-03T12:00:00", "updatedAt": "2026-11-03T12:00:00"},
        {
            "id": "priceless",
            "createdAt": "2026-11-03T12:00:00Z",
            "updatedAt": "2026-11-03T12:00:00Z",
            "cost": "NaN",
        },
        {
            "id": "worded",
            "createdAt": "2026-11-03T12:00:00Z",
            "updatedAt": "2026-11-03T12:00:00Z",
            "cost": {"total": 1},
        },
    ],
)
def test_unreadable_row_does_not_spoil_the_others(sandbox: RunningSandbox, settings: Settings, row: object) -> None:
    """A broken row is named as such, with its id if it has one, and the rest is read."""
    calls = place(sandbox, 3)
    sandbox.vapi.put_raw(row, created_at=DAY + timedelta(hours=12))
    frame = read(settings)
    broken = frame[frame["problem"].notna()]

    assert ids(frame) == each_once(calls)
    assert len(broken) == 1
    named = row.get("id") if isinstance(row, dict) and isinstance(row.get("id"), str) else None
    assert broken["call_id"].astype(object).where(broken["call_id"].notna(), None).tolist() == [named]


def test_client_without_a_key_is_not_opened(sandbox: RunningSandbox) -> None:
    """The message names the setting."""
    with pytest.raises(NotConfigured, match="VAPI_API_KEY"):
        read(Settings(_env_file=None, vapi_base_url=sandbox.vapi_base_url))


def test_money_of_the_list_is_exact(sandbox: RunningSandbox, settings: Settings) -> None:
    """Decimals go through no float on their way."""
    moment = "2026-11-03T12:00:00.000Z"
    sandbox.vapi.put_raw(
        {"id": "c", "createdAt": moment, "updatedAt": moment, "status": "ended", "cost": 9007199254.740993},
        created_at=DAY,
    )
    frame = read(settings)

    assert frame["cost_micros"].tolist() == [9_007_199_254_740_993]
    assert ended_calls(frame)[0].provider_cost_micros == 9_007_199_254_740_993
