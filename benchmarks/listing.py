"""Reading the provider's list: beside the bare download of the same pages, and the same done in the obvious way.

The sandbox has a process of its own, on the same machine, and no pace is kept. Pages are compressed, as Vapi's are.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import pandas as pd
import psutil  # type: ignore[import-untyped]
from pydantic import SecretStr

from benchmarks.listing_sandbox import DAY, FULL_DAY, SLIM_DAY
from benchmarks.serving import serving
from benchmarks.table import Figure
from billing.settings import Settings
from billing.vapi_client import VapiClient, connect_vapi
from billing.vapi_list import REQUESTS_AT_ONCE, CallLister
from calltally.sandbox.vapi import DEFAULT_API_KEY

PORT = 3986
ROUNDS = 3
FULL_CALLS, SLIM_CALLS = 6_000, 60_000
FULL_PER_SECOND = 1_500
SLIM_PER_SECOND = 10_000
BARE = "bare download of the same pages"
FULL_SHARE = "; 0.60 or more"
"""Of a download, for calls with transcripts: most of their bytes are skipped."""


@dataclass(frozen=True)
class Run:
    """One way of reading a day: seconds, and of them CPU of this process and of the sandbox."""

    seconds: float
    our_cpu: float
    sandbox_cpu: float


Reader = Callable[[VapiClient], Awaitable[object]]


def figures() -> Iterator[Figure]:
    """Calls with transcripts, then calls without."""
    with serving(PORT, "benchmarks.listing_sandbox", *map(str, (PORT, FULL_CALLS, SLIM_CALLS))) as process_id:
        process = psutil.Process(process_id)
        yield from _day(process, FULL_DAY, FULL_CALLS, FULL_PER_SECOND, BARE + FULL_SHARE)
        yield from _day(process, SLIM_DAY, SLIM_CALLS, SLIM_PER_SECOND, BARE)


def _day(process: psutil.Process, day: datetime, calls: int, limit: int, bare_name: str) -> Iterator[Figure]:
    pages: list[httpx.URL] = []
    sizes: list[tuple[int, int]] = []

    async def ours(client: VapiClient) -> None:
        frame = await CallLister(client).list_window("createdAt", day, day + DAY)
        if len(frame) != calls or frame["problem"].notna().any():
            raise RuntimeError(f"{len(frame)} rows of {calls} calls")

    async def note_pages(client: VapiClient) -> None:
        async def note(answer: httpx.Response) -> None:
            pages.append(answer.request.url)
            body = await answer.aread()
            sizes.append((len(body), len(json.loads(body))))

        client.http.event_hooks["response"] = [note]
        await ours(client)

    async def bare(client: VapiClient) -> None:
        await _download(client.http, pages, len)

    async def obvious(client: VapiClient) -> None:
        frames: list[pd.DataFrame] = []
        await _download(client.http, pages, lambda body: frames.append(_obvious_frame(body)))
        pd.concat(frames).drop_duplicates("call_id")

    _measure(process, note_pages)
    rounds = [[_measure(process, reader) for reader in (ours, bare, obvious)] for _ in range(ROUNDS)]
    ours_run, bare_run, obvious_run = (min(runs, key=lambda run: run.seconds) for runs in zip(*rounds, strict=True))
    per_second = calls / ours_run.seconds
    bytes_listed, rows_listed = map(sum, zip(*sizes, strict=True))
    what = f"calls of {bytes_listed / rows_listed / 1000:.1f} KB"
    yield Figure(f"list and decode {what}", per_second, limit, "limit")
    yield Figure(f"list and decode {what}", per_second, calls / bare_run.seconds, bare_name)
    yield Figure(f"list and decode {what}", per_second, calls / obvious_run.seconds, "json.loads, row by row")
    micros = [run / calls * 1e6 for run in (ours_run.our_cpu, bare_run.our_cpu, ours_run.sandbox_cpu)]
    yield Figure("  CPU per call", micros[0], micros[1], "bare download", " µs")
    yield Figure("  CPU per call", micros[0], micros[2], "the sandbox's, meanwhile", " µs")


async def _download(http: httpx.AsyncClient, pages: list[httpx.URL], use: Callable[[bytes], object]) -> None:
    """As many at once as ours."""
    left = iter(pages)

    async def take() -> None:
        for page in left:
            use((await http.get(page)).raise_for_status().content)

    await asyncio.gather(*(take() for _ in range(REQUESTS_AT_ONCE)))


def _obvious_frame(body: bytes) -> pd.DataFrame:
    """What most people would write."""
    rows: list[dict[str, Any]] = []
    for call in json.loads(body, parse_float=Decimal):
        started, ended = call.get("startedAt"), call.get("endedAt")
        row = {name: call.get(name) for name in ("status", "type", "endedReason", "assistantId", "squadId")}
        row |= {"call_id": call["id"], "phone_number_id": call.get("phoneNumberId")}
        row["created_at"] = pd.Timestamp(call["createdAt"])
        row["updated_at"] = pd.Timestamp(call["updatedAt"])
        row["started_at"] = pd.Timestamp(started) if started else None
        row["ended_at"] = pd.Timestamp(ended) if ended else None
        row["duration_ms"] = (row["ended_at"] - row["started_at"]) // pd.Timedelta("1ms") if started and ended else 0
        row["cost_micros"] = int(Decimal(call.get("cost", 0)) * 1_000_000)
        rows.append(row)
    return pd.DataFrame(rows)


def _measure(process: psutil.Process, reader: Reader) -> Run:
    settings = Settings(
        _env_file=None,
        vapi_base_url=f"http://127.0.0.1:{PORT}/vapi",
        vapi_api_key=SecretStr(DEFAULT_API_KEY),
        vapi_requests_per_second=0,
    )

    async def reading() -> Run:
        async with connect_vapi(settings) as client:
            sandbox_cpu, our_cpu, started = _cpu(process), time.process_time(), time.perf_counter()
            await reader(client)
            seconds = time.perf_counter() - started
            return Run(seconds, time.process_time() - our_cpu, _cpu(process) - sandbox_cpu)

    return asyncio.run(reading())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
