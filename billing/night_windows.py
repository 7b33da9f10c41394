"""Which windows a night reads: what was asked for, what the provider still keeps, and how it is cut. No clock."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from billing.errors import PermanentError
from billing.figures import Totals, Window
from billing.reconcile import SETTLING
from billing.vapi_list import Clock, floor_to_millisecond

LENGTH: Final = timedelta(hours=24)
LOOK_BACK: Final = timedelta(hours=72)
"""Read before the window, by creation and by change: calls may last 12 hours, reach the list late, or be changed long
after; and nights may fail."""
PART: Final = timedelta(hours=24)
"""Of the list, whose completeness is proved at once."""
CALLS_PER_SPAN: Final = 50_000
"""About so many are listed in one task: what a retry repeats."""
MAX_SPANS_PER_PART: Final = 24

Range = tuple[datetime, datetime]
"""Half-open."""


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of the provider's list: calls with `start <= clock < end`."""

    clock: Clock
    start: datetime
    end: datetime
    created_before: datetime | None = None
    """Only calls created before that: the others are read by their creation."""


def night_window(
    window_from: datetime | None,
    window_to: datetime | None,
    scheduled: datetime,
    *,
    now: datetime,
    length: timedelta = LENGTH,
    look_back: timedelta = LOOK_BACK,
) -> Window:
    """The window that a person asked for, or `length` up to the scheduled time, however late the run begins.

    It ends early enough for its calls to be settled, so that each of them is billed and counted in one night: never
    later than that before `now`, whatever was asked for, since nobody can look at what has not happened.

    Raises:
        PermanentError: it ends before it begins.
    """
    end = min(floor_to_millisecond(window_to or scheduled - SETTLING), floor_to_millisecond(now - SETTLING))
    start = floor_to_millisecond(window_from) if window_from else end - length
    if start >= end:
        raise PermanentError(
            f"the window is empty: {start:%Y-%m-%d %H:%M} is not before {end:%Y-%m-%d %H:%M} UTC. Calls are compared "
            "once their numbers are settled, 15 minutes after they ended: choose a window that begins earlier"
        )
    return Window(start=start, end=end, listed_from=start - look_back)


def still_kept(window: Window, now: datetime, retention: timedelta) -> Window:
    """As much of a window as the provider has not forgotten: it keeps calls for `retention`.

    Raises:
        PermanentError: it keeps none of the window.
    """
    listed_from = listed_parts(window, now, retention)[0][0]
    return Window(max(window.start, listed_from), window.end, listed_from)


def listed_parts(window: Window, now: datetime, retention: timedelta) -> list[Range]:
    """The times of creation that are listed, day by day: the provider keeps no older calls than `retention`.

    Raises:
        PermanentError: it keeps none of the window.
    """
    start = max(window.listed_from, floor_to_millisecond(now - retention))
    if start >= window.end:
        raise PermanentError(
            f"Vapi keeps calls for {retention.days} days, and the window {window.in_words} is older: there is "
            "nothing to compare with. If your plan keeps them longer, set VAPI_RETENTION_DAYS"
        )
    return list(pieces(start, window.end, PART))


def spans(window: Window, totals: Mapping[Range, Totals | None]) -> list[Span]:
    """What to ask of the provider: by creation, and what was created earlier by change, for calls that ended late.

    Both from where the list begins: what a night that failed would have found, the next one finds, in either way.

    `totals`: the parts of the list, in order, with what the provider says is in them; the busy ones are cut finer.
    """
    by_creation = []
    for (start, end), reported in totals.items():
        share = 1 if reported is None else min(MAX_SPANS_PER_PART, 1 + reported.calls // CALLS_PER_SPAN)
        length = floor_to_millisecond(start + (end - start) / share) - start
        by_creation += [Span("createdAt", *piece) for piece in pieces(start, end, length)]
    listed_from = min(totals)[0]
    return [*by_creation, Span("updatedAt", listed_from, window.end, created_before=listed_from)]


def pieces(start: datetime, end: datetime, length: timedelta) -> Iterator[Range]:
    """A range of time, cut into half-open pieces."""
    while start < end:
        yield start, min(start + length, end)
        start += length


def days(start: datetime, end: datetime) -> Iterator[Range]:
    """A range of time, cut at each midnight (UTC), so that the same days come out whenever it is asked for."""
    while start < end:
        midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + LENGTH
        yield start, min(midnight, end)
        start = midnight
