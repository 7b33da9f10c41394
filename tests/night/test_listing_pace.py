"""How fast the provider is asked, and what it may say about that."""

import asyncio
import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from billing.pace import Pace, Patience, seconds_to_wait, shared_pace
from billing.settings import Settings
from billing.vapi_client import connect_vapi

NOW = datetime(2026, 11, 4, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": format_datetime(NOW.replace(minute=1), usegmt=True)}, 60),
        ({"retry-after": format_datetime(NOW.replace(hour=2), usegmt=True)}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"x-ratelimit-reset": str(NOW.timestamp() + 90)}, 90),
        ({"retry-after": "7", "x-ratelimit-reset": str(NOW.timestamp() + 90)}, 7),
        ({"retry-after": "soon", "x-ratelimit-reset": str(NOW.timestamp() + 90)}, 90),
        ({"x-ratelimit-reset": "0"}, 0),
    ],
)
def test_refusal_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, a date or a moment; what cannot be read is as good as nothing."""
    assert seconds_to_wait(headers, NOW.timestamp()) == seconds


def test_requests_are_spread_over_time() -> None:
    """A quarter of a second may be used at once; the others wait for their turn."""

    async def take(count: int) -> float:
        pace, started = Pace(100), time.monotonic()
        await asyncio.gather(*(pace.turn() for _ in range(count)))
        return time.monotonic() - started

    assert asyncio.run(take(45)) >= 0.15


def test_no_limit_is_no_wait() -> None:
    """A rate of 0."""

    async def take() -> int:
        pace = Pace(0)
        for _ in range(10_000):
            await pace.turn()
        return await pace.turn()

    assert asyncio.run(take()) == 0


def test_pause_holds_everybody_even_those_who_wait_already() -> None:
    """Whoever stood in the queue when the provider refused starts after the pause as well."""

    async def wait_through() -> float:
        pace, started = Pace(20), time.monotonic()
        for _ in range(6):  # as many as may go at once
            await pace.turn()
        queued = [asyncio.create_task(pace.turn()) for _ in range(3)]
        await asyncio.sleep(0)
        pace.pause(0.3)
        await asyncio.wait(queued, return_when=asyncio.FIRST_COMPLETED)
        waited = time.monotonic() - started
        for task in queued:
            task.cancel()
        return waited

    assert asyncio.run(wait_through()) >= 0.3


def test_rate_is_halved_once_for_all_requests_that_were_on_their_way() -> None:
    """Eight refusals of one crowd are one refusal; the next one counts again."""

    async def refuse() -> list[float]:
        pace = Pace(20)
        crowd = [await pace.turn() for _ in range(3)]
        for turn in crowd:
            pace.slow_down(turn)
        once = pace.per_second
        pace.slow_down(await pace.turn())
        return [once, pace.per_second]

    assert asyncio.run(refuse()) == [10, 5]


@pytest.mark.parametrize("usual", [20, 0])
def test_rate_recovers_with_each_answer(usual: float) -> None:
    """Back to what it was, and never beyond."""
    pace = Pace(usual)
    before = pace.per_second
    pace.slow_down(0)
    slowed = pace.per_second
    for _ in range(200):
        pace.speed_up()

    assert slowed < before
    assert pace.per_second == before


def test_rate_never_stops_altogether() -> None:
    """However often the provider refuses, a request now and then is sent."""
    pace = Pace(20)
    for refusals in range(100):
        pace.slow_down(refusals)

    assert pace.per_second == pytest.approx(0.2)


def test_pace_is_shared_by_all_who_ask_one_provider() -> None:
    """And not with another one."""
    assert shared_pace("https://a.example", 20) is shared_pace("https://a.example", 20)
    assert shared_pace("https://a.example", 20) is not shared_pace("https://b.example", 20)


@pytest.mark.parametrize(("rate", "processes", "own"), [(20, 1, 20), (20, 4, 5), (0, 4, math.inf)])
def test_processes_of_a_run_share_its_rate(settings: Settings, rate: float, processes: int, own: float) -> None:
    """However many list at once, Vapi is asked as often as the setting says."""

    async def per_second() -> float:
        limited = settings.model_copy(update={"vapi_requests_per_second": rate})
        async with connect_vapi(limited, processes=processes) as client:
            return client.pace.per_second

    assert asyncio.run(per_second()) == own


def test_patience_doubles_up_to_its_end() -> None:
    """Seconds before each further try."""
    patience = Patience(first_delay_seconds=1, longest_delay_seconds=60)

    assert [patience.delay_seconds(tries) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
