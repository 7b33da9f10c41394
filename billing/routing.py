"""Who pays for a call, by our own dated mapping: what find_organization in sql/ answers, for many calls at once."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from billing.call_frames import INSTANT

PRECEDENCE = {
    "assistant": "assistant_id",
    "squad": "squad_id",
    "workflow": "workflow_id",
    "phone_number": "phone_number_id",
    "metadata": "metadata",
}
"""The column of a call that each kind of route is about, in the order in which they decide."""

NOBODY = -1
Integers = npt.NDArray[np.int64]


def organizations_of(calls: pd.DataFrame, routes: pd.DataFrame) -> "pd.Series[Any]":
    """The organization that pays for each call, as a category of uuid texts; absent if nobody is known.

    The assistant decides before the squad and so on (PRECEDENCE); of each, the route in force when the call was
    created. `calls` has PROVIDER_COLUMNS and `routes` ROUTE_COLUMNS (billing/call_frames.py).
    """
    payers = pd.Categorical(routes["organization_id"])
    payer_codes = payers.codes.astype(np.int64)
    created_at = _microseconds(calls["created_at"])
    found = np.full(len(calls), NOBODY)
    for kind, column in PRECEDENCE.items():
        of_kind = np.flatnonzero(routes["kind"].eq(kind))
        row = _route_in_force(calls[column].astype("category"), created_at, routes.iloc[of_kind])
        open_calls = (found == NOBODY) & (row != NOBODY)
        found[open_calls] = payer_codes[of_kind[row[open_calls]]]
    found[calls["created_at"].isna()] = NOBODY
    return pd.Series(pd.Categorical.from_codes(found, dtype=payers.dtype), index=calls.index)


def _route_in_force(external_ids: "pd.Series[Any]", at: Integers, routes: pd.DataFrame) -> Integers:
    """For each call the place of its route in `routes`, or NOBODY.

    Routes of one id do not overlap, so the one that began last before a call is the only one that can hold. One
    integer orders both ids and times, and each call is a single binary search.
    """
    if routes.empty:
        return np.full(len(at), NOBODY)
    known_ids = pd.Index(routes["external_id"].unique())
    starts = _microseconds(routes["valid_from"])
    ends = np.where(routes["valid_to"].isna(), np.iinfo(np.int64).max, _microseconds(routes["valid_to"]))
    moments = np.unique(starts)

    route_ids = known_ids.get_indexer(pd.Index(routes["external_id"]))
    route_keys = route_ids * len(moments) + np.searchsorted(moments, starts)
    order = np.argsort(route_keys)

    categories = known_ids.get_indexer(external_ids.cat.categories)
    call_ids = np.append(categories, NOBODY)[external_ids.cat.codes]  # code -1 is absent: the last element
    call_keys = call_ids * len(moments) + np.searchsorted(moments, at, side="right") - 1
    candidate = np.searchsorted(route_keys, call_keys, side="right", sorter=order) - 1
    row = order[np.maximum(candidate, 0)]

    holds = (candidate >= 0) & (route_ids[row] == call_ids) & (at < ends[row])
    return np.where(holds, row, NOBODY)


def _microseconds(times: "pd.Series[Any]") -> Integers:
    """Since the epoch; an absent time is the smallest number, which is right for a route that holds since ever."""
    return times.astype(INSTANT).to_numpy(dtype="datetime64[us]").view(np.int64)
