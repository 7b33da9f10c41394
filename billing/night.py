"""One night, as data: which windows are read, what is to be done, and what was found. No database, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from billing.errors import PermanentError
from billing.reconcile import SETTLING, count_kinds, find_differences, reliability
from billing.runs import Finding, Recovered, Window
from billing.vapi import EndedCall, ListedCall, UnreadableRow
from billing.vapi_list import Clock, Row, floor_to_millisecond

LENGTH = timedelta(hours=24)
LOOK_BACK = timedelta(hours=72)
"""Read before the window: calls may last 12 hours, and reach the list late."""
LISTING = timedelta(hours=24)
"""Of the list, in one task: what a retry repeats."""


def night_window(window_from: datetime | None, window_to: datetime | None, scheduled: datetime) -> Window:
    """The window that a person asked for, or 24 hours up to the scheduled time, however late the run begins.

    It ends early enough for its calls to be settled, so that each of them is billed and counted in one night.

    Raises:
        PermanentError: it ends before it begins.
    """
    end = floor_to_millisecond(window_to or scheduled - SETTLING)
    start = floor_to_millisecond(window_from) if window_from else end - LENGTH
    if start >= end:
        raise PermanentError(f"the window is empty: {start:%Y-%m-%d %H:%M} is not before {end:%Y-%m-%d %H:%M} UTC")
    return Window(start=start, end=end, listed_from=start - LOOK_BACK)


def listings(window: Window) -> list[tuple[Clock, datetime, datetime]]:
    """What to ask of the provider: by creation, day by day, then by change, which finds old calls that ended late."""
    by_creation: list[tuple[Clock, datetime, datetime]] = []
    start = window.listed_from
    while start < window.end:
        end = min(start + LISTING, window.end)
        by_creation.append(("createdAt", start, end))
        start = end
    return [*by_creation, ("updatedAt", window.start, window.end)]


@dataclass(frozen=True)
class Comparison:
    """Both lists side by side, and what follows from it."""

    differences: pd.DataFrame
    counts: dict[str, int]
    missing: list[EndedCall]
    """To be recorded: connected or not, no webhook told us of them."""
    drifted: list[EndedCall]
    unreadable: list[UnreadableRow]
    provider_calls: int
    known_calls: int
    ended: int
    by_webhook: int


def compare(
    listed: Sequence[Row],
    provider: pd.DataFrame,
    known: pd.DataFrame,
    reported: set[str],
    window: Window,
    as_of: datetime,
) -> Comparison:
    """Find every difference and what is to be done about it; `as_of` is when the list was read."""
    differences = find_differences(provider, known, as_of)
    calls = sorted((row for row in listed if isinstance(row, ListedCall)), key=lambda call: call.updated_at)
    facts = {call.id: call.ended_call() for call in calls}  # of a call that was listed twice, the latest
    unreadable = list({row for row in listed if isinstance(row, UnreadableRow)})
    by_webhook, ended = reliability(differences, reported, window.start, window.end)

    def of_kind(*kinds: str) -> list[EndedCall]:
        return [facts[call_id] for call_id in differences.loc[differences["kind"].isin(kinds), "call_id"]]

    return Comparison(
        differences=differences,
        counts={**count_kinds(differences), "unreadable": len(unreadable)},
        missing=of_kind("missing", "unconnected"),
        drifted=of_kind("drift"),
        unreadable=unreadable,
        provider_calls=len(provider),
        known_calls=len(known),
        ended=ended,
        by_webhook=by_webhook,
    )


def findings(
    comparison: Comparison, recovered: Sequence[Recovered], corrected: dict[str, int | None]
) -> list[Finding]:
    """Every difference with what was done about it; calls that agree are counted, not listed."""
    kinds: dict[str, str] = dict(zip(comparison.differences["call_id"], comparison.differences["kind"], strict=True))
    recorded = [
        Finding(
            kind="unattributed" if call.outcome == "unattributed" else kinds[call.call_id],
            call_id=call.call_id,
            organization_id=call.organization_id,
            amount_micros=call.amount_micros,
            outcome=call.outcome,
            detail={"problem": call.problem} if call.problem else None,
        )
        for call in recovered
    ]
    drifted = [
        Finding(
            kind="drift", call_id=call_id, amount_micros=difference, outcome="corrected" if difference else "noted"
        )
        for call_id, difference in corrected.items()
    ]
    phantom = [Finding(kind="phantom", call_id=call_id) for call_id, kind in kinds.items() if kind == "phantom"]
    unreadable = [
        Finding(kind="unreadable", call_id=row.call_id, detail={"problem": row.problem})
        for row in comparison.unreadable
    ]
    return [*recorded, *drifted, *phantom, *unreadable]


def of_lost_webhooks(comparison: Comparison, recovered: Sequence[Recovered]) -> list[Recovered]:
    """Those of the recorded calls whose webhook got lost; the others never connected, so none was due."""
    kinds = comparison.differences.set_index("call_id")["kind"]
    return [call for call in recovered if kinds[call.call_id] == "missing"]


def missing_traits(comparison: Comparison) -> list[dict[str, Any]]:
    """What the calls whose webhook got lost may have in common."""
    missing = comparison.differences[comparison.differences["kind"] == "missing"]
    names = ["assistant_id", "phone_number_id", "ended_at"]
    columns = missing[names].astype(object)
    return [dict(zip(names, row, strict=True)) for row in columns.where(columns.notna(), None).to_numpy()]
