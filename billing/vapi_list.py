"""Reads Vapi's list of calls completely, although it has neither pages nor a cursor (`GET /call`).

A window of time is asked for in pieces that should fit an answer; if one is as long as its limit allows, it may have
been cut, so its piece is asked for again in smaller ones. Nothing relies on the order of rows, and pieces are
independent.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import httpx
import pandas as pd
import pyarrow as pa

from billing.errors import PermanentError
from billing.times import in_utc
from billing.vapi_client import VapiClient, stamp
from billing.vapi_page import EPOCH, CallColumns, created_before, read_columns, shown_ms
from billing.vapi_windows import PageSize, Piece, Stretch

PAGE_SIZE = 100
"""Vapi's default: 4 MB of full calls. It allows 1000, and has timed out on large pages."""
MAX_PAGE_SIZE = 1000
REQUESTS_AT_ONCE = 6
"""Within one window; as many pages are in memory at once."""
MILLISECOND = timedelta(milliseconds=1)

Clock = Literal["createdAt", "updatedAt"]


Progress = Callable[[timedelta, int], None]
"""Told how much of a window has been covered, and how many calls were in that."""
_COLUMN_OF_CLOCK: dict[Clock, str] = {"createdAt": "created_at", "updatedAt": "updated_at"}


class TooManyCallsAtOnce(PermanentError):
    """More calls in one millisecond than one answer can hold: the list cannot be read completely."""


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer, and how many rows it was asked for."""

    rows: pa.RecordBatch
    size_bytes: int
    limit: int

    @property
    def is_full(self) -> bool:
        """Whether it is as long as it may be."""
        return bool(self.rows.num_rows >= self.limit)

    @property
    def is_doubtful(self) -> bool:
        """The same, or as long as answers are by default: should Vapi ever ignore our limit, nothing gets lost."""
        return self.is_full or self.rows.num_rows == PAGE_SIZE


class CallLister:
    """Reads windows of the list; what it learns of the provider in one serves the next."""

    def __init__(self, client: VapiClient, *, page_size: int = PAGE_SIZE, max_page_size: int = MAX_PAGE_SIZE) -> None:
        self._client = client
        self._page_size = PageSize(page_size, max_page_size)
        self._max_page_size = max_page_size

    async def list_window(
        self,
        clock: Clock,
        start: datetime,
        end: datetime,
        *,
        created_before: datetime | None = None,
        on_progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Every call with `start <= clock < end`, and created before that time if one is given, as a provider frame.

        All three on whole milliseconds.

        Raises:
            ProviderRefused: wrong key, or a request that Vapi does not accept.
            RateLimited, ProviderUnavailable: worth another try, later.
            TooManyCallsAtOnce: a single millisecond that is still full at Vapi's maximum.
        """
        listing = _Listing(self._client, self._page_size, self._max_page_size, clock, created_before, on_progress)
        return await listing.read(_to_ms(start), _to_ms(end))


class _Listing:
    """One window on its way."""

    def __init__(
        self,
        client: VapiClient,
        page_size: PageSize,
        max_page_size: int,
        clock: Clock,
        created_before: datetime | None,
        on_progress: Progress | None,
    ) -> None:
        self._client = client
        self._page_size = page_size
        self._max_page_size = max_page_size
        self._clock = clock
        self._created_before = created_before
        self._on_progress = on_progress
        self._columns = CallColumns()
        self._stretches: list[Stretch] = []
        self._covered_ms = 0
        self._calls = 0

    async def read(self, start: int, end: int) -> pd.DataFrame:
        """The first piece is the whole window; its answer says how to go on."""
        if start < end:
            self._stretches.append(Stretch(start, end))
        running: set[asyncio.Task[None]] = set()
        try:
            while self._stretches or running:
                while self._stretches and len(running) < REQUESTS_AT_ONCE:
                    running.add(asyncio.create_task(self._read_piece(self._next_piece())))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return self._columns.frame()

    def _next_piece(self) -> Piece:
        """Of the latest stretch: those that were cut out of others come first, so there are never many."""
        stretch = self._stretches[-1]
        piece = stretch.take(self._page_size.limit)
        if stretch.start == stretch.end:
            self._stretches.pop()
        return piece

    async def _read_piece(self, piece: Piece) -> None:
        page = await self._fetch(piece)
        if page.is_doubtful and piece.length > 1:
            if not page.is_full:
                self._page_size.failed(2 * PAGE_SIZE)
            shown = shown_ms(page.rows, _COLUMN_OF_CLOCK[self._clock])
            self._stretches.append(piece.cut(page.rows.num_rows, page.limit, shown))
            return
        if page.is_full and page.limit < self._max_page_size:
            page = await self._fetch(piece, self._max_page_size)
        if page.is_full:
            raise TooManyCallsAtOnce(
                f"{self._max_page_size} or more calls have {self._clock} {_stamp_ms(piece.start)}: "
                "Vapi's list cannot show them all. Ask Vapi's support for an export of that millisecond.",
                at=_stamp_ms(piece.start),
            )
        piece.stretch.learn(piece, page.rows.num_rows, page.limit)
        self._keep(page.rows, piece)

    def _keep(self, rows: pa.RecordBatch, piece: Piece) -> None:
        if self._created_before is not None:
            # Asked for as well; Vapi says nothing about parameters that it might ignore.
            rows = created_before(rows, self._created_before)
        self._columns.add(rows)
        self._covered_ms += piece.length
        self._calls += rows.num_rows
        if self._on_progress is not None:
            self._on_progress(self._covered_ms * MILLISECOND, self._calls)

    async def _fetch(self, piece: Piece, at_least: int = 0) -> _Page:
        """One answer, of a smaller page each time that the provider fails."""
        limit, started, seconds = 0, 0.0, 0.0

        def build() -> httpx.Request:
            nonlocal limit, started
            limit, started = max(self._page_size.limit, at_least), time.monotonic()
            bounds = {f"{self._clock}Ge": _stamp_ms(piece.start), f"{self._clock}Lt": _stamp_ms(piece.end)}
            if self._created_before is not None:
                bounds["createdAtLt"] = stamp(self._created_before)
            return self._client.http.build_request("GET", "/call", params={**bounds, "limit": str(limit)})

        def read(answer: httpx.Response) -> _Page:
            nonlocal seconds
            seconds = time.monotonic() - started
            return _Page(read_columns(answer.content), len(answer.content), limit)

        page = await self._client.ask(build, read, lambda: self._page_size.failed(limit))
        self._page_size.answered(page.rows.num_rows, page.size_bytes, seconds)
        return page


def floor_to_millisecond(moment: datetime) -> datetime:
    """In UTC; Vapi shows whole milliseconds, and half-open windows on them are right whatever precision it keeps."""
    return datetime.fromisoformat(in_utc(moment).isoformat(timespec="milliseconds"))


def _to_ms(moment: datetime) -> int:
    return (moment - EPOCH) // MILLISECOND


def _stamp_ms(milliseconds: int) -> str:
    return stamp(EPOCH + milliseconds * MILLISECOND)
