"""How reliable the webhooks were: of the calls that connected and ended, how many told us themselves.

`differences` is what find_differences answers. `reported` are ids of calls whose end-of-call report had arrived when
a night first saw them, applied or not. It counts for calls that the books do not know. For a call that they know, the
books keep how it was first seen, so neither a repair nor a report that comes after it ever improves a past night; and
a call that the provider has deleted since keeps counting.
"""

from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from billing.figures import GroupReliability, Reliability

DUE = ("matched", "drift", "held", "missing", "unattributed", "open")
"""Kinds of calls whose report was due, if they connected and ended. An open one that has ended is one that the
provider touched a moment ago: its report is as overdue as that of any other, though its numbers are not settled."""

GONE = ("phantom", "beyond_retention")
"""Kinds of calls that we alone know: their report was due when they ended, and it still counts, or lacks."""

UNKNOWN = "unknown"


def measure(differences: pd.DataFrame, reported: set[str], start: datetime, end: datetime) -> Reliability:
    """Over the calls that ended in `start <= ended_at < end`, by the provider's clock."""
    told = due_calls(differences, reported, start, end)["told"]
    return Reliability(by_webhook=int(told.sum()), ended=len(told))


def by_group(
    differences: pd.DataFrame,
    reported: set[str],
    start: datetime,
    end: datetime,
    column: str,
    names: Mapping[str, str],
) -> list[GroupReliability]:
    """The same for each value of `column`, such as `organization_id` or `assistant_id`; the worst first.

    `names` are for people; a value without one is shown as it is.
    """
    due = due_calls(differences, reported, start, end)
    sums = due.groupby(column, observed=True, dropna=False)["told"].agg(["sum", "count"])
    groups = [
        GroupReliability(
            UNKNOWN if pd.isna(key) else names.get(str(key), str(key)), Reliability(int(told), int(ended))
        )
        for key, told, ended in sums.itertuples(name=None)
    ]
    return sorted(groups, key=_worst_first)


def lost_calls(differences: pd.DataFrame, reported: set[str], start: datetime, end: datetime) -> pd.DataFrame:
    """Rows of the calls whose webhook never came, those included that a night has found before."""
    due = due_calls(differences, reported, start, end)
    return due[~due["told"]].drop(columns="told")


def due_calls(differences: pd.DataFrame, reported: set[str], start: datetime, end: datetime) -> pd.DataFrame:
    """Rows of the calls whose report was due, with a column `told`: a webhook told us before any night did."""
    ended = differences["ended_at"].ge(start) & differences["ended_at"].lt(end)
    due = differences[differences["kind"].isin(DUE) & differences["started_at"].notna() & ended]
    gone = _gone_calls(differences, start, end)
    due = pd.concat([due, gone]) if len(gone) else due
    had_arrived = due["call_id"].isin(reported).astype("boolean")
    return due.assign(told=due["by_webhook"].fillna(had_arrived).astype(bool))


def unseen_calls(differences: pd.DataFrame, end: datetime) -> list[str]:
    """Ids of the calls whose report was due, that ended before `end`, and that the books do not know."""
    is_due = differences["kind"].isin(DUE) & differences["started_at"].notna() & differences["ended_at"].lt(end)
    unseen: list[str] = differences.loc[is_due & differences["by_webhook"].isna(), "call_id"].tolist()
    return unseen


def _gone_calls(differences: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Calls that the provider no longer lists, as our books have them."""
    ended = differences["ended_at_known"].ge(start) & differences["ended_at_known"].lt(end)
    gone = differences[differences["kind"].isin(GONE) & differences["started_at_known"].notna() & ended]
    facts = ("assistant_id", "created_at", "started_at", "ended_at")
    return gone.assign(**{name: gone[f"{name}_known"] for name in facts})


def _worst_first(group: GroupReliability) -> tuple[object, ...]:
    """By ratio; of equal ones the larger first."""
    return (group.reliability.ratio, -group.reliability.ended, group.name)
