"""How two lists of calls differ: the provider's and ours. Pure: frames in, frames out, no clock, no database.

Both frames have one row per call id. Money is `Int64` micros and durations `Int64` milliseconds, so that no absent
value turns an integer into a float.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from billing.vapi import ListedCall

PROVIDER_COLUMNS = {
    "call_id": "string",
    "status": "string",
    "assistant_id": "string",
    "squad_id": "string",
    "phone_number_id": "string",
    "call_type": "string",
    "ended_reason": "string",
    "created_at": "datetime64[ms, UTC]",
    "updated_at": "datetime64[ms, UTC]",
    "started_at": "datetime64[ms, UTC]",
    "ended_at": "datetime64[ms, UTC]",
    "duration_ms": "Int64",
    "cost_micros": "Int64",
}
KNOWN_COLUMNS = {
    "call_id": "string",
    "organization_id": "string",
    "created_at": "datetime64[ms, UTC]",
    "duration_ms": "Int64",
    "cost_micros": "Int64",
    "by_webhook": "boolean",
}

SETTLING = timedelta(minutes=15)
"""Vapi finishes cost and analysis up to 7 s after the end of a call; until then, its numbers may move."""

KINDS = ("matched", "missing", "unconnected", "drift", "phantom", "open")
"""matched: both agree.
missing: ended at the provider, unknown to us.
unconnected: the same, but it never connected, so there is nothing to bill and no report was due.
drift: known to both, with another duration or cost.
phantom: known to us only.
open: not over yet, or so recently that its numbers may still move."""


def provider_frame(calls: Iterable[ListedCall]) -> pd.DataFrame:
    """The provider's list; a call that was listed twice counts as last updated."""
    ended = ((call, call.ended_call()) for call in calls)
    content = [
        {
            "call_id": call.id,
            "status": call.status,
            "assistant_id": call.assistant_id,
            "squad_id": call.squad_id,
            "phone_number_id": call.phone_number_id,
            "call_type": call.type,
            "ended_reason": call.ended_reason,
            "created_at": call.created_at,
            "updated_at": call.updated_at,
            "started_at": call.started_at,
            "ended_at": call.ended_at,
            "duration_ms": facts.duration_ms,
            "cost_micros": facts.provider_cost_micros,
        }
        for call, facts in ended
    ]
    frame = _frame(content, PROVIDER_COLUMNS)
    latest = frame.sort_values(["call_id", "updated_at"], kind="stable").drop_duplicates("call_id", keep="last")
    return latest.reset_index(drop=True)


def known_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Our calls; `by_webhook` tells whether a webhook brought them before any night did."""
    return _frame(list(rows), KNOWN_COLUMNS)


def find_differences(provider: pd.DataFrame, known: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """Every call of either list, once, with its `kind`; the columns of both lists, ours with the suffix `_known`.

    `as_of` is when the provider's list was read.
    """
    both = provider.merge(known, how="inner", on="call_id", suffixes=("", "_known"), validate="one_to_one")
    theirs = provider.merge(known[["call_id"]], how="left_anti", on="call_id")
    ours = known.merge(provider[["call_id"]], how="left_anti", on="call_id")

    differs = _differ(both["duration_ms"], both["duration_ms_known"])
    differs |= _differ(both["cost_micros"], both["cost_micros_known"])
    both["kind"] = "matched"
    both.loc[differs & _is_settled(both, as_of), "kind"] = "drift"

    theirs["kind"] = "missing"
    theirs.loc[theirs["started_at"].isna(), "kind"] = "unconnected"
    theirs.loc[~_is_settled(theirs, as_of), "kind"] = "open"

    ours = ours.rename(columns={name: f"{name}_known" for name in ("created_at", "duration_ms", "cost_micros")})
    ours["kind"] = "phantom"
    return pd.concat([both, theirs, ours], ignore_index=True)


def count_kinds(differences: pd.DataFrame) -> dict[str, int]:
    """How many calls of each kind; they add up to all calls of both lists."""
    counts = differences["kind"].value_counts()
    return {kind: int(counts.get(kind, 0)) for kind in KINDS}


def reliability(differences: pd.DataFrame, reported: set[str], start: datetime, end: datetime) -> tuple[int, int]:
    """Of the calls that connected and ended in `start <= ended_at < end`: how many told us by webhook, of how many.

    A call that a night had to find stays so for ever, whatever is repaired later. `reported` are calls whose report
    lies in the inbox: it did arrive, even if it is not applied yet.
    """
    ended = differences[
        differences["kind"].isin(["matched", "drift", "missing"])
        & differences["started_at"].notna()
        & differences["ended_at"].ge(start)
        & differences["ended_at"].lt(end)
    ]
    by_webhook = ended["by_webhook"].fillna(value=False) | ended["call_id"].isin(reported)
    return int(by_webhook.sum()), len(ended)


def _is_settled(calls: pd.DataFrame, as_of: datetime) -> "pd.Series[bool]":
    return calls["status"].eq("ended").fillna(value=False) & calls["updated_at"].le(as_of - SETTLING)


def _differ(theirs: "pd.Series[Any]", ours: "pd.Series[Any]") -> "pd.Series[bool]":
    """Whether both are known and not equal; what one side does not know is no contradiction."""
    return theirs.ne(ours).fillna(value=False).astype(bool)


def _frame(content: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in content], dtype=kind) for name, kind in columns.items()}
    )
