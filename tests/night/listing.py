"""Reading the sandbox's list over HTTP, with little patience and at no pace."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pandas as pd
from pydantic import SecretStr

from billing.pace import Pace, Patience
from billing.settings import Settings
from billing.vapi_client import VapiClient, connect_vapi
from billing.vapi_list import MAX_PAGE_SIZE, PAGE_SIZE, CallLister, Clock, Progress
from calltally.sandbox.calls import Call, Route
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.traffic import Traffic

DAY = datetime(2026, 11, 3, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
ASSISTANT = Route(assistant_id="a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34")
PATIENCE = Patience(tries=4, refused_tries=8, first_delay_seconds=0.001, total_delay_seconds=5)
ONE_TRY = Patience(tries=1, refused_tries=1)


class FastClock:
    """A clock whose hours pass at once when somebody waits for them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Seconds since the clock began."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Wait, in no time; whoever waits beside does so at the same time."""
        end = self.seconds + seconds
        await asyncio.sleep(0)
        self.seconds = max(self.seconds, end)

    def pace(self, per_second: float = 20) -> Pace:
        """A token bucket that goes by this clock."""
        return Pace(per_second, now=self.now, sleep=self.sleep)


Hook = Callable[[httpx.Response], Awaitable[None]]


def settings_of(sandbox: RunningSandbox) -> Settings:
    """Settings that point at this sandbox."""
    return Settings(_env_file=None, vapi_base_url=sandbox.vapi_base_url, vapi_api_key=SecretStr(sandbox.vapi.api_key))


def place(sandbox: RunningSandbox, count: int, **traffic: object) -> list[Call]:
    """Calls of one day; keyword arguments are fields of Traffic."""
    chosen: dict[str, object] = {"routes": (ASSISTANT,), "start": DAY, "end": NEXT_DAY, "detail": "slim", **traffic}
    return sandbox.vapi.place_calls(Traffic(count, **chosen))  # type: ignore[arg-type]


def place_at(sandbox: RunningSandbox, *moments: datetime) -> list[Call]:
    """One call at each of these milliseconds."""
    return [place(sandbox, 1, start=at, end=at + timedelta(milliseconds=1))[0] for at in moments]


def ask(
    configured: Settings,
    question: Callable[[VapiClient], Awaitable[Any]],
    *,
    patience: Patience = PATIENCE,
    pace: Pace | None = None,
    hook: Hook | None = None,
    timeout: float | None = None,
) -> Any:
    """What a client finds out; `hook` sees each answer, `timeout` is in seconds."""

    async def asking() -> Any:
        async with connect_vapi(configured) as client:
            client.http.event_hooks["response"] = [hook] if hook else []
            client.http.timeout = client.http.timeout if timeout is None else httpx.Timeout(timeout)
            return await question(replace(client, pace=pace or Pace(0), patience=patience))

    return asyncio.run(asking())


def read(
    configured: Settings,
    clock: Clock = "createdAt",
    start: datetime = DAY,
    end: datetime = NEXT_DAY,
    *,
    created_before: datetime | None = None,
    on_progress: Progress | None = None,
    page_size: int = PAGE_SIZE,
    max_page_size: int = MAX_PAGE_SIZE,
    **options: Any,
) -> pd.DataFrame:
    """Every row of a window; `options` are those of `ask`."""

    async def listing(client: VapiClient) -> pd.DataFrame:
        lister = CallLister(client, page_size=page_size, max_page_size=max_page_size)
        return await lister.list_window(clock, start, end, created_before=created_before, on_progress=on_progress)

    frame = ask(configured, listing, **options)
    assert isinstance(frame, pd.DataFrame)
    return frame


def ids(frame: pd.DataFrame) -> Counter[str]:
    """How often each readable call was read."""
    return Counter(frame.loc[frame["problem"].isna(), "call_id"])


def each_once(calls: list[Call]) -> Counter[str]:
    """What `ids` gives for a complete list."""
    return Counter(call.id for call in calls)


def requests(sandbox: RunningSandbox) -> list[str]:
    """What was asked for."""
    return list(sandbox.vapi.faults.requests)


def limits(sandbox: RunningSandbox) -> list[int]:
    """How many rows each request asked for."""
    return [int(request.partition("limit=")[2].partition("&")[0]) for request in requests(sandbox)]
