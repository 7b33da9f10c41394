"""How two lists of calls differ: the provider's and ours. Pure: frames in, frames out, no clock, no database.

The shapes are those of billing/call_frames.py. Money is `Int64` micros and durations `Int64` milliseconds, so that no
absent value turns an integer into a float. What is wide is copied once; everything is decided on row numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from billing.call_frames import KNOWN_COLUMNS, PROVIDER_COLUMNS
from billing.routing import organizations_of

SETTLING = timedelta(minutes=15)
"""Vapi finishes cost and analysis up to 7 s after the end of a call (facts: observed in 88 calls); until then, its
numbers may move."""

AHEAD = timedelta(days=1)
"""So far may a clock of the provider's go wrong."""

RETENTION_MARGIN = timedelta(hours=1)
"""The provider forgets at its own pace: so long before the end of its memory, absence proves nothing yet."""

KINDS = (
    "matched",
    "missing",
    "unattributed",
    "unconnected",
    "drift",
    "held",
    "phantom",
    "beyond_retention",
    "open",
    "duplicate",
    "unreadable",
)
"""matched: both agree, or the provider's numbers may still move.
missing: ended at the provider, unknown to us.
unattributed: the same, or known to both, and nobody is known who pays.
unconnected: ended and unknown to us, but it never connected, so there is nothing to bill and no report was due.
drift: known to both, with another duration, cost or organization, or not ended at the provider.
held: known to both, and not charged, because its times or its cost cannot be or it names two organizations.
phantom: known to us only.
beyond_retention: the same, but so old that the provider no longer lists it: its absence proves nothing.
open: unknown to us, and not over yet, or so recently that its numbers may still move.
duplicate: a further row of a call that the provider listed twice; the one updated last holds.
unreadable: a row that could not be read."""

DRIFT_FIELDS = ("ended_state", "duration", "cost", "organization")
"""In what a call can differ, in the order in which `drift_fields` names it."""

OF_BOTH = ("assistant_id", "created_at", "started_at", "ended_at", "duration_ms", "cost_micros", "organization_id")
"""Columns of ours that stand beside the provider's, with the suffix `_known`."""

ABSENT = -1
"""In place of a row number."""

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far two numbers of one call may lie apart and still agree.

    Durations, 0 ms: both sides compute them from the same two times, so any difference is a correction by Vapi, which
    has corrected durations retroactively.
    Costs, 100 micros: Vapi gives costs with four decimals of a dollar, which lie within 0.00005 USD of the sum of
    their parts (seen in 88 of 88 calls). Two sightings that round the other way differ by one last digit, 0.0001 USD.
    """

    duration_ms: int = 0
    cost_micros: int = 100


@dataclass(frozen=True, slots=True)
class _Pairing:
    """Row numbers: which rows of both lists belong together."""

    theirs: Rows
    """Rows of the provider, each once, then ABSENT for every call that we alone know."""
    ours: Rows
    """Beside each of them the row of ours, or ABSENT."""
    unknown: Flags
    """The provider's row is the one that holds of a call that we do not know."""
    further: Flags
    """The provider's row is a further one of its call."""


def compact(calls: pd.DataFrame, columns: Mapping[str, str] = PROVIDER_COLUMNS) -> pd.DataFrame:
    """The exact columns and types; joining parts of a list, for instance, spoils their categories."""
    return calls[list(columns)].astype(dict(columns)).reset_index(drop=True)


def find_differences(
    provider: pd.DataFrame,
    known: pd.DataFrame,
    routes: pd.DataFrame,
    as_of: datetime,
    *,
    kept_since: datetime,
    tolerances: Tolerances,
    organization_id: str | None = None,
) -> pd.DataFrame:
    """Every row of the provider's list and every call that we alone know, once, with its `kind` (KINDS).

    Columns: the provider's; ours of OF_BOTH with the suffix `_known`; `organization_id`, who pays: as a person said,
    by our routes when the call was created, or else by our books; `by_webhook`, `held` and `assigned`, absent if
    unknown to us; `drift_fields`, joined by commas; `kind`. The provider's rows come first, in their order.

    `as_of` is when the provider's list was read; it keeps calls created since `kept_since`. With `organization_id`,
    only the calls that routes or books say are its own. What one side does not know is no contradiction.

    Raises:
        pandas.errors.MergeError: our books name a call twice.
    """
    provider, known = compact(provider), compact(known, KNOWN_COLUMNS)
    pairing = _pair(provider, known)
    calls = _side_by_side(provider, known, organizations_of(provider, routes), pairing)
    is_both = (pairing.theirs != ABSENT) & (pairing.ours != ABSENT)
    # A time of change that lies in the future says nothing; nobody would ever be charged for such a call.
    is_settled = _flags(calls["updated_at"].le(as_of - SETTLING) | calls["updated_at"].gt(as_of + AHEAD))
    is_odd = _flags(calls["problem"].notna())

    differing = [is_both & is_settled & differs for differs in _differing(calls, as_of, tolerances)]
    is_drift = np.logical_or.reduce(differing)
    cases = (
        (
            "unreadable",
            (is_odd & ~pairing.unknown)
            | _flags((calls["problem"].notna() & calls["created_at"].isna()) | calls["call_id"].isna()),
        ),
        ("duplicate", pairing.further),
        ("beyond_retention", (pairing.theirs == ABSENT) & _flags(calls["created_at_known"].lt(kept_since))),
        ("phantom", pairing.theirs == ABSENT),
        ("held", _flags(calls["held"].notna())),
        ("drift", is_drift),
        ("matched", is_both & ~is_settled),
        ("open", pairing.unknown & ~(is_settled & is_over(calls))),
        ("unconnected", pairing.unknown & ~is_odd & _is_unconnected(calls)),
        ("unattributed", _flags(calls["organization_id"].isna())),
        ("missing", pairing.unknown),
    )
    codes = np.select([case for _, case in cases], [KINDS.index(kind) for kind, _ in cases], KINDS.index("matched"))
    calls["drift_fields"] = _names(differing, codes == KINDS.index("drift"))
    calls["kind"] = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(KINDS)))
    return calls if organization_id is None else _of_organization(calls, organization_id)


def count_kinds(differences: pd.DataFrame) -> dict[str, int]:
    """How many rows of each kind; they add up to all rows of both lists, pairs counted once."""
    counts = differences["kind"].value_counts()
    return {kind: int(counts.get(kind, 0)) for kind in KINDS}


def is_over(calls: pd.DataFrame) -> Flags:
    """Whether the provider says that a call has ended; only such a call has a duration; 0: it never connected."""
    return _flags(calls["duration_ms"].notna())


def _is_unconnected(calls: pd.DataFrame) -> Flags:
    """Whether nothing says that a call ever connected: neither its times nor its cost."""
    return _flags(calls["started_at"].isna() & calls["ended_at"].isna() & calls["cost_micros"].fillna(0).eq(0))


def _pair(provider: pd.DataFrame, known: pd.DataFrame) -> _Pairing:
    ids = pd.factorize(pd.concat([provider["call_id"], known["call_id"]], ignore_index=True))[0]
    listed, booked = np.arange(len(provider)), np.arange(len(known))
    theirs = pd.DataFrame({"call": ids[: len(provider)], "their_row": listed})
    ours = pd.DataFrame({"call": ids[len(provider) :], "our_row": booked})
    theirs = theirs[theirs["call"].ne(ABSENT)]  # rows without an id belong to nobody
    further = _further(theirs, provider)
    theirs = theirs[~further[theirs["their_row"]]]

    both = theirs.merge(ours, how="inner", on="call", validate="one_to_one")
    theirs_alone = theirs.merge(ours[["call"]], how="left_anti", on="call")
    ours_alone = ours.merge(theirs[["call"]], how="left_anti", on="call")

    partner = np.full(len(provider), ABSENT)
    partner[both["their_row"]] = both["our_row"]
    their_rows = np.concatenate([listed, np.full(len(ours_alone), ABSENT)])
    unknown = np.zeros(len(their_rows), dtype=bool)
    unknown[theirs_alone["their_row"]] = True
    return _Pairing(
        theirs=their_rows,
        ours=np.concatenate([partner, ours_alone["our_row"].to_numpy()]),
        unknown=unknown,
        further=np.concatenate([further, np.zeros(len(ours_alone), dtype=bool)]),
    )


def _further(theirs: pd.DataFrame, provider: pd.DataFrame) -> Flags:
    """Which rows repeat a call: a readable row holds before a broken one, and the one updated last before the others.

    The other columns decide between rows of one moment, so that the order of the list says nothing.
    """
    further = np.zeros(len(provider), dtype=bool)
    repeated = theirs[theirs["call"].duplicated(keep=False)]
    if repeated.empty:
        return further
    rows = provider.loc[repeated["their_row"]].assign(
        call=repeated["call"].to_numpy(),
        readable=lambda rows: rows["problem"].isna(),
        ended=is_over,
    )
    rows = rows.astype({name: "string" for name, kind in PROVIDER_COLUMNS.items() if kind == "category"})
    order = ["call", "readable", "updated_at", "ended", *(name for name in PROVIDER_COLUMNS if name != "updated_at")]
    rows = rows.sort_values(order, na_position="first")
    further[rows.index[rows["call"].duplicated(keep="last")]] = True
    return further


def _side_by_side(
    provider: pd.DataFrame, known: pd.DataFrame, routed: "pd.Series[Any]", pairing: _Pairing
) -> pd.DataFrame:
    """The rows of both lists in one frame; who pays, and which assistant spoke, can be compared by category."""
    routed, booked = _alike(routed, known["organization_id"])
    theirs, ours = _alike(provider["assistant_id"], known["assistant_id"])
    provider, known = provider.assign(assistant_id=theirs), known.assign(assistant_id=ours)
    ours_alone = known["call_id"].iloc[pairing.ours[len(provider) :]]
    columns = {name: _take(provider[name], pairing.theirs) for name in PROVIDER_COLUMNS if name != "call_id"}
    beside = {f"{name}_known": _take(known[name], pairing.ours) for name in OF_BOTH if name != "organization_id"}
    by_route, by_book = _take(routed, pairing.theirs), _take(booked, pairing.ours)
    assigned = known["assigned"].fillna(value=False).to_numpy(dtype=bool)
    by_hand = (pairing.ours != ABSENT) & (np.append(assigned, False)[pairing.ours])
    payer = np.where((by_route.codes == ABSENT) | by_hand, by_book.codes, by_route.codes)
    return pd.DataFrame(
        {
            "call_id": pd.concat([provider["call_id"], ours_alone], ignore_index=True),
            **columns,
            **beside,
            "organization_id_known": by_book,
            "organization_id": pd.Categorical.from_codes(payer, categories=routed.cat.categories),
            **{name: _take(known[name], pairing.ours) for name in ("by_webhook", "held", "assigned")},
        },
        copy=False,
    )


def _alike(theirs: "pd.Series[Any]", ours: "pd.Series[Any]") -> "list[pd.Series[Any]]":
    """Two columns of ids with one set of categories."""
    categories = theirs.cat.categories.union(ours.cat.categories)
    return [ids.cat.set_categories(categories) for ids in (theirs, ours)]


def _differing(calls: pd.DataFrame, as_of: datetime, tolerances: Tolerances) -> tuple[Flags, ...]:
    """For each of DRIFT_FIELDS, in which rows both sides know it and disagree.

    Our books hold calls that are over; one that ended after the list was read could not be shown so there.
    """
    ended_before = ~_flags(calls["ended_at_known"].gt(as_of - SETTLING))
    ended_state = ~is_over(calls) & ended_before
    duration = _lie_apart(calls["duration_ms"], calls["duration_ms_known"], tolerances.duration_ms)
    cost = _lie_apart(calls["cost_micros"], calls["cost_micros_known"], tolerances.cost_micros)
    payer, booked = calls["organization_id"].cat.codes, calls["organization_id_known"].cat.codes
    organization = ((payer != booked) & (booked != ABSENT)).to_numpy()
    return ended_state, duration, cost, organization


def _lie_apart(theirs: "pd.Series[Any]", ours: "pd.Series[Any]", tolerance: int) -> Flags:
    """Whether both are known and further apart than the tolerance; exact for all 64 bits."""
    a, b = (side.to_numpy(dtype=np.int64, na_value=0) for side in (theirs, ours))
    distance = (np.maximum(a, b) - np.minimum(a, b)).view(np.uint64)
    is_far: Flags = distance > np.uint64(tolerance)
    return is_far & _flags(theirs.notna() & ours.notna())


def _names(differing: list[Flags], is_drift: Flags) -> "pd.Series[Any]":
    """The fields in which each row differs, joined by commas; absent for rows that do not drift."""
    sets = range(1, 2 ** len(DRIFT_FIELDS))
    names = [",".join(name for bit, name in enumerate(DRIFT_FIELDS) if number >> bit & 1) for number in sets]
    number = sum(flags.astype(np.int64) << bit for bit, flags in enumerate(differing))
    return pd.Series(_take(pd.Series(names, dtype="string"), np.where(is_drift, number - 1, ABSENT)))


def _of_organization(calls: pd.DataFrame, organization_id: str) -> pd.DataFrame:
    """Filtered last: a call that only one side ascribes to it is its drift, and no phantom."""
    is_its_own = calls["organization_id"].eq(organization_id) | calls["organization_id_known"].eq(organization_id)
    return calls[is_its_own].reset_index(drop=True)


def _take(column: "pd.Series[Any]", rows: Rows) -> Any:
    """The values of these rows, absent where a row is."""
    return column.array.take(rows, allow_fill=True)


def _flags(condition: "pd.Series[Any]") -> Flags:
    """As plain truth; what is not known is not so."""
    flags: Flags = condition.fillna(value=False).to_numpy(dtype=bool)
    return flags
