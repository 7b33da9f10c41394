"""The query string of `GET /call`, and Vapi's words for what is wrong with it.

Parameters and limits follow Vapi's OpenAPI file: no cursor and no page number. Unknown parameters are
ignored; the documentation does not say, and a client must not count on being told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from calltally.sandbox.call_store import EVER_MS, CallFilter, Window
from calltally.sandbox.wire import to_us

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_US_PER_MS = 1000


class BadQuery(Exception):  # named after the answer, 400 Bad Request
    """The query is refused; `messages` become the array in Vapi's error body."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A readable query string of `GET /call`."""

    wanted: CallFilter
    limit: int


def parse_list_query(params: Mapping[str, str]) -> ListQuery:
    """Return what is asked for, or raise BadQuery with everything that is wrong."""
    problems: list[str] = []
    limit = _limit(params, problems)
    created = _window("createdAt", params, problems)
    updated = _window("updatedAt", params, problems)
    if problems:
        raise BadQuery(problems)
    wanted = CallFilter(
        created=created,
        updated=updated,
        id=params.get("id"),
        assistant_id=params.get("assistantId"),
        phone_number_id=params.get("phoneNumberId"),
    )
    return ListQuery(wanted, limit)


def parse_time_us(text: str) -> int:
    """Return microseconds since 1970 of an ISO 8601 time; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _limit(params: Mapping[str, str], problems: list[str]) -> int:
    try:
        limit = float(params.get("limit", DEFAULT_LIMIT))
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        problems.append("limit must be a number conforming to the specified constraints")
        return DEFAULT_LIMIT
    if limit > MAX_LIMIT:
        problems.append(f"limit must not be greater than {MAX_LIMIT}")
    if limit < 0:
        problems.append("limit must not be less than 0")
    return int(limit)


def _window(column: str, params: Mapping[str, str], problems: list[str]) -> Window:
    """Turn up to four bounds into one half-open window; rows have whole milliseconds."""
    start_ms, end_ms = 0, EVER_MS
    for suffix in ("Gt", "Ge", "Lt", "Le"):
        name = column + suffix
        if name not in params:
            continue
        try:
            bound_us = parse_time_us(params[name])
        except ValueError:
            problems.append(f"{name} must be a valid ISO 8601 date string")
            continue
        first_at_or_after, first_after = -(-bound_us // _US_PER_MS), bound_us // _US_PER_MS + 1
        if suffix == "Gt":
            start_ms = max(start_ms, first_after)
        elif suffix == "Ge":
            start_ms = max(start_ms, first_at_or_after)
        elif suffix == "Lt":
            end_ms = min(end_ms, first_at_or_after)
        else:
            end_ms = min(end_ms, first_after)
    return Window(start_ms, max(start_ms, end_ms))
