"""The provider's list is read completely and once, although it has neither pages nor a cursor."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from billing import vapi_list
from billing.errors import ProviderUnavailable
from billing.process import NotConfigured
from billing.settings import Settings
from billing.vapi import ListedCall, UnreadableRow
from billing.vapi_list import (
    MAX_PAGE_SIZE,
    MILLISECOND,
    Clock,
    Row,
    TooManyCallsAtOnce,
    list_window,
    open_vapi,
)
from calltally.sandbox.calls import Call, Route
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.world import Sandbox

from .served import Switchboard

DAY = datetime(2026, 11, 3, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
ASSISTANT = Route(assistant_id="a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34")


def place(sandbox: RunningSandbox, count: int, **traffic: object) -> list[Call]:
    """Calls of one day; keyword arguments are fields of Traffic."""
    chosen: dict[str, object] = {"routes": (ASSISTANT,), "start": DAY, "end": NEXT_DAY, "detail": "slim", **traffic}
    return sandbox.vapi.place_calls(Traffic(count, **chosen))  # type: ignore[arg-type]


def read(
    configured: Settings, clock: Clock = "createdAt", start: datetime = DAY, end: datetime = NEXT_DAY
) -> list[Row]:
    """Every row of a window."""

    async def listing() -> list[Row]:
        async with open_vapi(configured) as client:
            return await list_window(client, clock, start, end)

    return asyncio.run(listing())


def ids(rows: list[Row]) -> Counter[str]:
    """How often each call was read."""
    return Counter(row.id for row in rows if isinstance(row, ListedCall))


def requests(sandbox: RunningSandbox) -> list[str]:
    """What was asked for."""
    return list(sandbox.vapi.faults.requests)


def test_short_window_takes_one_request(sandbox: RunningSandbox, settings: Settings) -> None:
    """An answer below the limit is known to be complete."""
    calls = place(sandbox, 99)

    assert ids(read(settings)) == Counter(call.id for call in calls)
    assert len(requests(sandbox)) == 1


@pytest.mark.parametrize("count", [100, 250])
def test_full_answer_is_halved_until_complete(sandbox: RunningSandbox, settings: Settings, count: int) -> None:
    """A full page may have been cut, even if it was not: both halves are read."""
    calls = place(sandbox, count, tie_share=0.2)

    assert ids(read(settings)) == Counter(call.id for call in calls)
    assert len(requests(sandbox)) > 2
    assert not [request for request in requests(sandbox) if "page=" in request]


@pytest.mark.parametrize("clock", ["createdAt", "updatedAt"])
def test_ties_on_one_millisecond_are_all_read(sandbox: RunningSandbox, settings: Settings, clock: Clock) -> None:
    """More calls in one millisecond than a page holds are asked for with the largest page."""
    calls = place(sandbox, 350, start=DAY, end=DAY + MILLISECOND, never_connected_share=0.0)

    assert ids(read(settings, clock)) == Counter(call.id for call in calls)


def test_more_ties_than_any_answer_holds_are_refused(sandbox: RunningSandbox, settings: Settings) -> None:
    """A list that cannot be read completely is no list, and the message says which millisecond it is."""
    place(sandbox, MAX_PAGE_SIZE + 1, start=DAY, end=DAY + MILLISECOND)

    with pytest.raises(TooManyCallsAtOnce, match=r"2026-11-03T00:00:00\.000Z"):
        read(settings)


def test_as_many_ties_as_an_answer_holds_are_one_too_many(sandbox: RunningSandbox, settings: Settings) -> None:
    """A full answer of the largest size may have been cut as well."""
    place(sandbox, MAX_PAGE_SIZE, start=DAY, end=DAY + MILLISECOND)

    with pytest.raises(TooManyCallsAtOnce):
        read(settings)


def test_window_holds_its_start_and_not_its_end(sandbox: RunningSandbox, settings: Settings) -> None:
    """Windows that follow each other read each call once."""
    first = place(sandbox, 1, start=DAY, end=DAY + MILLISECOND)
    place(sandbox, 1, start=NEXT_DAY, end=NEXT_DAY + MILLISECOND)
    before = place(sandbox, 1, start=DAY - MILLISECOND, end=DAY)

    assert ids(read(settings)) == Counter([first[0].id])
    assert ids(read(settings, start=DAY - MILLISECOND, end=DAY)) == Counter([before[0].id])


CREATION = st.integers(0, 40) | st.integers(0, 24 * 3_600_000 - 1)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times_ms=st.lists(CREATION, max_size=60), page_size=st.integers(1, 5))
def test_any_creation_times_are_read_exactly_once(
    switchboard: Switchboard, monkeypatch: pytest.MonkeyPatch, times_ms: list[int], page_size: int
) -> None:
    """Whatever calls exist and however small a page is, each of them comes once."""
    monkeypatch.setattr(vapi_list, "PAGE_SIZE", page_size)
    shown = switchboard.show(Sandbox(seed=1))
    calls = [
        call
        for moment_ms in times_ms
        for call in place(
            shown,
            1,
            start=DAY + timedelta(milliseconds=moment_ms),
            end=DAY + timedelta(milliseconds=moment_ms + 1),
        )
    ]
    configured = Settings(
        _env_file=None, vapi_base_url=shown.vapi_base_url, vapi_api_key=SecretStr(shown.vapi.api_key)
    )

    assert ids(read(configured)) == Counter(call.id for call in calls)


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
            "id": "backwards",
            "status": "ended",
            "createdAt": "2026-11-03T12:00:00Z",
            "updatedAt": "2026-11-03T12:00:00Z",
            "startedAt": "2026-11-03T12:00:10Z",
            "endedAt": "2026-11-03T12:00:05Z",
        },
        {
            "id": "endless",
            "status": "ended",
            "createdAt": "2026-11-03T12:00:00Z",
            "updatedAt": "2026-11-03T12:00:00Z",
            "startedAt": "2026-11-03T12:00:10Z",
        },
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
    rows = read(settings)
    broken = [found for found in rows if isinstance(found, UnreadableRow)]

    assert ids(rows) == Counter(call.id for call in calls)
    assert len(broken) == 1
    assert broken[0].problem
    named = row.get("id") if isinstance(row, dict) and isinstance(row.get("id"), str) else None
    assert broken[0].call_id == named


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
    row = read(settings)[0]

    assert isinstance(row, ListedCall)
    assert row.ended_call().provider_cost_micros == 9_007_199_254_740_993


def test_timeout_is_an_outage(sandbox: RunningSandbox, settings: Settings) -> None:
    """A provider that takes for ever did not answer."""
    place(sandbox, 1)
    sandbox.vapi.faults.latency_seconds = 5

    async def impatient() -> None:
        async with open_vapi(settings) as client:
            client.timeout = httpx.Timeout(0.05)
            await list_window(client, "createdAt", DAY, NEXT_DAY)

    with pytest.raises(ProviderUnavailable, match="ReadTimeout"):
        asyncio.run(impatient())
