"""The shapes of the tables that a night compares: exact types, so that no absent value makes an integer a float.

Money is `Int64` micros and durations are `Int64` milliseconds. What repeats from call to call is a category: a
million calls fit into memory several times over.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.types import union_categoricals

INSTANT: Final = "datetime64[us, UTC]"

PROVIDER_COLUMNS: Final[Mapping[str, str]] = {
    "call_id": "string",
    "status": "category",
    "assistant_id": "category",
    "squad_id": "category",
    "workflow_id": "category",
    "phone_number_id": "category",
    "metadata": "category",
    "call_type": "category",
    "ended_reason": "category",
    "created_at": INSTANT,
    "updated_at": INSTANT,
    "started_at": INSTANT,
    "ended_at": INSTANT,
    "duration_ms": "Int64",
    "cost_micros": "Int64",
    "max_duration_seconds": "Int64",
    "problem": "string",
}
"""One row of the provider's list. `problem`: what of the row could not be read; then others may be absent. One that
at least says when the call was created is that of a call which is over, and is held."""

KNOWN_COLUMNS: Final[Mapping[str, str]] = {
    "call_id": "string",
    "organization_id": "category",
    "assistant_id": "category",
    "created_at": INSTANT,
    "started_at": INSTANT,
    "ended_at": INSTANT,
    "duration_ms": "Int64",
    "cost_micros": "Int64",
    "by_webhook": "boolean",
    "held": "category",
    "assigned": "boolean",
}
"""One call of ours. `by_webhook`: a webhook brought it before any night did. `held`: why it is not charged.
`assigned`: a person said whose it is."""

ROUTE_COLUMNS: Final[Mapping[str, str]] = {
    "kind": "string",
    "external_id": "string",
    "organization_id": "string",
    "valid_from": INSTANT,
    "valid_to": INSTANT,
}
"""Who pays for what (billing/routing.py), and when; an absent end means since ever or for ever."""


def frame(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table of these columns; for few rows, as tests and small answers have them."""
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=kind) for name, kind in columns.items()}
    )


def concatenated(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of the same columns as one, whose categories are those of all of them.

    They are emptied column by column, so that nothing is in memory twice, whoever else still holds them.
    """
    columns: dict[str, Any] = {}
    for name in list(frames[0].columns):
        parts = [frame.pop(name) for frame in frames]
        columns[name] = (
            union_categoricals([_with_texts(part) for part in parts], ignore_order=True)
            if isinstance(parts[0].dtype, pd.CategoricalDtype)
            else pd.concat(parts, ignore_index=True)
        )
    return pd.DataFrame(columns, copy=False)


def _with_texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Without a value, a column's categories have no type yet."""
    texts: Any = column.cat.categories.astype("str")
    return column.cat.rename_categories(texts)


def ids_missing(theirs: "pd.Series[Any]", ours: "pd.Series[Any]") -> list[str]:
    """Which of their ids are not among ours, each once.

    In Arrow: pandas' own `isin` makes a Python object of each id, which for a million of them is half a gigabyte.
    """
    texts = pa.large_string()
    asked, known = (pa.chunked_array([pa.array(ids.array).cast(texts)], texts) for ids in (theirs, ours))
    missing: list[str] = asked.filter(pc.invert(pc.is_in(asked, value_set=known))).drop_null().unique().to_pylist()
    return missing
