"""Calls by id and by time, quick enough to list a million of them."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice

from calltally.sandbox.call_json import render_call
from calltally.sandbox.calls import Call
from calltally.sandbox.wire import JsonObject, encode_json

# Encoded calls are kept up to this size; beyond it they are encoded again for each page.
CACHE_LIMIT_BYTES = 1_500_000_000

EVER_MS = 1 << 48


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open range of milliseconds since 1970."""

    start_ms: int = 0
    end_ms: int = EVER_MS

    def __contains__(self, moment_ms: int) -> bool:
        """Whether the moment lies in the range."""
        return self.start_ms <= moment_ms < self.end_ms


EVER = Window()


@dataclass(frozen=True, slots=True)
class CallFilter:
    """What `GET /call` can be asked for: two time windows and three exact matches."""

    created: Window = Window()
    updated: Window = Window()
    id: str | None = None
    assistant_id: str | None = None
    phone_number_id: str | None = None

    def matches(self, row: Row) -> bool:
        """Whether this row belongs to the answer."""
        return (
            row.created_at_ms in self.created
            and row.updated_at_ms in self.updated
            and self.id in {None, row.id}
            and self.assistant_id in {None, row.call and row.call.route.assistant_id}
            and self.phone_number_id in {None, row.call and row.call.route.phone_number_id}
        )


@dataclass(slots=True)
class Row:
    """One line of the list: a call, or raw JSON that stands in its place."""

    id: str
    created_at_ms: int
    updated_at_ms: int
    call: Call | None
    encoded: bytes | None = None


@dataclass(slots=True)
class TimeIndex:
    """Ids newest first; ids of the same millisecond in ascending order, as recorded lists show them."""

    keys: list[tuple[int, str]] = field(default_factory=list)

    def add(self, entries: Iterable[tuple[int, str]]) -> None:
        """Add many (ms, id) at once."""
        fresh = [(-moment_ms, row_id) for moment_ms, row_id in entries]
        if len(fresh) == 1:
            insort(self.keys, fresh[0])
        else:
            self.keys.extend(fresh)
            self.keys.sort()

    def remove(self, moment_ms: int, row_id: str) -> None:
        """Remove one id."""
        del self.keys[bisect_left(self.keys, (-moment_ms, row_id))]

    def count(self, window: Window) -> int:
        """Return how many there are in the window."""
        first, last = self._span(window)
        return last - first

    def within(self, window: Window, limit: int | None) -> list[tuple[int, str]]:
        """Return the keys in the window, at most so many of the newest."""
        first, last = self._span(window)
        return self.keys[first : last if limit is None else min(last, first + limit)]

    def _span(self, window: Window) -> tuple[int, int]:
        return bisect_left(self.keys, (1 - window.end_ms, "")), bisect_left(self.keys, (1 - window.start_ms, ""))


class CallStore:
    """All rows of the list; not safe for threads by itself."""

    def __init__(self, cache_limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self._rows: dict[str, Row] = {}
        self._by_created = TimeIndex()
        self._by_updated = TimeIndex()
        self._cache_left_bytes = cache_limit_bytes

    def __len__(self) -> int:
        """Return the number of rows, unreadable ones included."""
        return len(self._rows)

    def add(self, rows: list[Row]) -> None:
        """Add rows whose ids are new."""
        for row in rows:
            if row.id in self._rows:
                raise ValueError(f"call {row.id} exists already")
            self._rows[row.id] = row
        self._by_created.add((row.created_at_ms, row.id) for row in rows)
        self._by_updated.add((row.updated_at_ms, row.id) for row in rows)

    def remove(self, row_id: str) -> Row:
        """Remove and return one row; KeyError when there is none."""
        row = self._rows.pop(row_id)
        self._by_created.remove(row.created_at_ms, row_id)
        self._by_updated.remove(row.updated_at_ms, row_id)
        return row

    def get(self, row_id: str) -> Row | None:
        """Return the row with this id."""
        return self._rows.get(row_id)

    def find(self, wanted: CallFilter, limit: int | None = None) -> list[Row]:
        """Return matching rows, newest `createdAt` first."""
        if wanted == CallFilter(created=wanted.created):
            return self._created_in(wanted.created, limit)
        if wanted.id is not None:
            row = self._rows.get(wanted.id)
            candidates: Iterable[Row] = [] if row is None else [row]
        elif self._by_updated.count(wanted.updated) < self._by_created.count(wanted.created):
            matching = filter(wanted.matches, self._updated_in(wanted.updated))
            return sorted(matching, key=_newest_first) if limit is None else nsmallest(limit, matching, _newest_first)
        else:
            candidates = self._created_in(wanted.created, None)
        return list(islice(filter(wanted.matches, candidates), limit))

    def encoded(self, row: Row) -> bytes:
        """Return the row as JSON."""
        if row.encoded is not None:
            return row.encoded
        if row.call is None:
            raise ValueError(f"row {row.id} holds neither a call nor JSON")
        body = encode_json(render_call(row.call))
        if len(body) <= self._cache_left_bytes:
            self._cache_left_bytes -= len(body)
            row.encoded = body
        return body

    def shown(self, row: Row) -> JsonObject:
        """Return the row as a client reads it."""
        decoded: JsonObject = json.loads(self.encoded(row))
        return decoded

    def _created_in(self, window: Window, limit: int | None) -> list[Row]:
        return [self._rows[row_id] for _, row_id in self._by_created.within(window, limit)]

    def _updated_in(self, window: Window) -> list[Row]:
        return [self._rows[row_id] for _, row_id in self._by_updated.within(window, None)]


def _newest_first(row: Row) -> tuple[int, str]:
    return -row.created_at_ms, row.id
