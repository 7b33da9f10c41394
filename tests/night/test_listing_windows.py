"""Whatever the calls' times and however windows fall, each call is listed once."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.settings import Settings
from billing.vapi_list import MILLISECOND
from calltally.sandbox.calls import Call
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox

from .listing import DAY, NEXT_DAY, each_once, ids, place, place_at, read, requests, settings_of
from .served import Switchboard

DAY_MS = 24 * 3_600_000
ANYWHERE = st.integers(0, DAY_MS - 1)
EDGES = st.sampled_from([0, 1, DAY_MS // 2 - 1, DAY_MS // 2, DAY_MS - 1])
TIES = st.tuples(ANYWHERE | EDGES, st.integers(1, 12)).map(lambda tie: [tie[0]] * tie[1])
BURST = st.tuples(st.integers(0, DAY_MS - 60), st.lists(st.integers(0, 50), max_size=15)).map(
    lambda burst: [burst[0] + offset for offset in burst[1]]
)


@pytest.mark.slow
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(TIES | BURST, max_size=5), page_size=st.integers(1, 5), max_page_size=st.integers(20, 1000))
def test_any_creation_times_are_read_exactly_once(
    switchboard: Switchboard, groups: list[list[int]], page_size: int, max_page_size: int
) -> None:
    """Whatever calls exist, tied or in bursts, and however small a page is, each of them comes once."""
    times_ms = [moment for group in groups for moment in group]
    if times_ms:
        max_page_size = max(max_page_size, Counter(times_ms).most_common(1)[0][1] + 1)
    shown = switchboard.show(Sandbox(seed=1))
    calls = place_at(shown, *(DAY + timedelta(milliseconds=moment) for moment in times_ms))

    frame = read(settings_of(shown), page_size=page_size, max_page_size=max_page_size)

    assert ids(frame) == each_once(calls)


CLOCKS_GO_FORWARD = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin"))
CLOCKS_GO_BACK = datetime(2026, 11, 1, tzinfo=ZoneInfo("America/New_York"))


@pytest.mark.parametrize(
    ("start", "hours"),
    [
        (CLOCKS_GO_FORWARD, 23),
        (CLOCKS_GO_BACK, 25),
        (datetime(2026, 2, 28, 12, tzinfo=UTC), 24),
        (datetime(2028, 2, 28, 12, tzinfo=UTC), 24),
        (datetime(2026, 10, 31, 12, tzinfo=UTC), 24),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), 24),
    ],
)
def test_window_across_a_change_of_clocks_or_month_is_whole(
    sandbox: RunningSandbox, settings: Settings, start: datetime, hours: int
) -> None:
    """Windows are of real time, whatever the clocks of a place say: a local day may have 23 or 25 hours."""
    begin = start.astimezone(UTC)
    end = begin + timedelta(hours=hours)
    hourly = place_at(sandbox, *(begin + timedelta(hours=hour) for hour in range(-1, hours + 1)))
    crowd = place(sandbox, 300, start=begin + timedelta(hours=1), end=end)

    frame = read(settings, start=start, end=end.astimezone(start.tzinfo))

    assert ids(frame) == each_once(hourly[1:-1] + crowd)


def test_adjoining_windows_read_each_call_once(sandbox: RunningSandbox, settings: Settings) -> None:
    """However a day is divided, also at a time that has calls of its own."""
    calls = place(sandbox, 200) + place_at(sandbox, *[DAY + timedelta(hours=8)] * 3)
    times = [DAY, DAY + timedelta(hours=8), DAY + timedelta(hours=8, milliseconds=1), NEXT_DAY]

    parts = [ids(read(settings, start=start, end=end)) for start, end in pairwise(times)]

    assert sum(parts, Counter()) == each_once(calls)


def test_window_before_retention_is_empty(sandbox: RunningSandbox, settings: Settings) -> None:
    """What the provider no longer keeps is no error, and what it still keeps is read to the last call."""
    calls = place(sandbox, 400)
    kept_from = DAY + timedelta(hours=14)
    sandbox.vapi.expire_calls(before=kept_from)
    kept = [call for call in calls if call.created_at_ms >= kept_from.timestamp() * 1000]

    assert ids(read(settings, end=kept_from)) == Counter()
    assert ids(read(settings)) == each_once(kept)
    assert 0 < len(kept) < 400


def _late_and_early(sandbox: RunningSandbox) -> tuple[list[Call], list[Call]]:
    """Calls created the day before that ended today, and calls of today."""
    yesterday = place(sandbox, 150, start=DAY - timedelta(days=1), end=DAY, in_progress=150)
    assert all(call.updated_at_ms < DAY.timestamp() * 1000 + 6_000 for call in yesterday)
    late = [
        sandbox.vapi.finish_call(call.id, duration_ms=_ms_until(call, NEXT_DAY) - 3_600_000)
        for call in yesterday[:120]
    ]
    today = place(sandbox, 200, end=NEXT_DAY - timedelta(hours=1))
    return late, today


def _ms_until(call: Call, moment: datetime) -> int:
    assert call.started_at_ms is not None
    return int(moment.timestamp() * 1000) - call.started_at_ms


def test_pass_by_change_finds_old_calls_that_ended_late(sandbox: RunningSandbox, settings: Settings) -> None:
    """A call created before the window and ended within is found by its change alone."""
    late, _ = _late_and_early(sandbox)
    call = late[0]

    assert call.id not in ids(read(settings))
    assert ids(read(settings, "updatedAt", created_before=DAY))[call.id] == 1


def test_both_passes_together_read_nothing_twice(sandbox: RunningSandbox, settings: Settings) -> None:
    """By creation all calls of the window, by change only older ones."""
    late, today = _late_and_early(sandbox)

    by_creation = ids(read(settings))
    asked = len(requests(sandbox))
    by_change = ids(read(settings, "updatedAt", DAY + timedelta(minutes=1), created_before=DAY))

    assert by_creation == each_once(today)
    assert by_change == each_once(late)
    assert all("createdAtLt=2026-11-03T00%3A00%3A00.000Z" in request for request in requests(sandbox)[asked:])


def test_pass_by_change_drops_what_the_provider_should_have_left_out(
    sandbox: RunningSandbox, settings: Settings
) -> None:
    """If Vapi ignored that filter, nothing would be read twice all the same; a row without times stays."""
    place_at(sandbox, DAY + timedelta(hours=1))
    moment = "2026-11-03T01:00:00.000Z"
    sandbox.vapi.put_raw({"id": "old", "createdAt": moment, "updatedAt": moment}, created_at=DAY - MILLISECOND)
    sandbox.vapi.put_raw({"id": "timeless"}, created_at=DAY - MILLISECOND)

    frame = read(settings, "updatedAt", DAY - MILLISECOND, created_before=DAY)

    assert frame["call_id"].tolist() == ["timeless"]
