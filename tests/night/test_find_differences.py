"""Two lists of calls are compared exactly, in any order, without a float."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.reconcile import KINDS, SETTLING, count_kinds
from billing.vapi import ListedCall

from .listed import AS_OF, differences, kinds, known, listed

INTEGERS = ("duration_ms", "cost_micros", "duration_ms_known", "cost_micros_known")
BEYOND_FLOATS = 2**53 + 1


@pytest.mark.parametrize(
    ("theirs", "ours", "kind"),
    [
        (listed(), known(), "matched"),
        (listed(), None, "missing"),
        (listed(seconds=None), None, "unconnected"),
        (listed(seconds=61), known(seconds=60), "drift"),
        (listed(cost="0.11"), known(), "drift"),
        (listed(cost=None), known(), "matched"),
        (listed(), known(cost_micros=None), "matched"),
        (listed(seconds=None, cost=None), known(seconds=0, cost_micros=None), "matched"),
        (listed(status="in-progress"), None, "open"),
        (listed(status="in-progress"), known(), "matched"),
        (listed(updated_at=AS_OF - SETTLING + timedelta(milliseconds=1)), None, "open"),
        (listed(updated_at=AS_OF - SETTLING), None, "missing"),
        (listed(seconds=61, updated_at=AS_OF - timedelta(minutes=1)), known(seconds=60), "matched"),
        (None, known(), "phantom"),
    ],
)
def test_call_of_either_list_has_one_kind(theirs: ListedCall | None, ours: dict[str, Any] | None, kind: str) -> None:
    """Each way in which two lists can agree or differ has its own name."""
    found = kinds([theirs] if theirs else [], [ours] if ours else [])

    assert found == {"call": kind}


@pytest.mark.parametrize("theirs", [[], [listed("a"), listed("b", None)]])
@pytest.mark.parametrize("ours", [[], [known("a"), known("c")]])
def test_empty_lists_keep_columns_and_types(theirs: list[ListedCall], ours: list[dict[str, Any]]) -> None:
    """Neither an empty list nor an absent partner turns an integer into a float or a string into an object."""
    found = differences(theirs, ours)

    assert len(found) == len({call.id for call in theirs} | {row["call_id"] for row in ours})
    assert {str(found[column].dtype) for column in INTEGERS} == {"Int64"}
    assert str(found["call_id"].dtype) == "string"
    assert not [column for column in found.columns if pd.api.types.is_float_dtype(found[column])]


def test_amounts_beyond_floats_stay_exact() -> None:
    """A difference of one micro above 2**53 is found, beside calls that have no partner."""
    cost = f"{Decimal(BEYOND_FLOATS).scaleb(-6):f}"
    theirs = [listed("same", cost=cost), listed("other", cost=cost), listed("alone", cost=cost)]
    ours = [known("same", cost_micros=BEYOND_FLOATS), known("other", cost_micros=BEYOND_FLOATS - 1), known("ours")]
    found = differences(theirs, ours).set_index("call_id")

    assert found["kind"].to_dict() == {"same": "matched", "other": "drift", "alone": "missing", "ours": "phantom"}
    assert found.loc["alone", "cost_micros"] == BEYOND_FLOATS
    assert found.loc["other", "cost_micros_known"] == BEYOND_FLOATS - 1


def test_call_listed_twice_counts_as_last_updated() -> None:
    """Overlapping windows show a call more than once; the latest version of it holds."""
    early, late = listed(seconds=60), listed(seconds=90, updated_at=AS_OF - timedelta(hours=1))

    assert kinds([late, early], [known(seconds=90)]) == {"call": "matched"}
    assert kinds([early, late, early], [known(seconds=60)]) == {"call": "drift"}


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["both", "theirs", "ours"]),
        st.sampled_from([60, 61, None]),
        st.sampled_from(["0.1", "0.2", None]),
        st.sampled_from(["ended", "in-progress"]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=25)
@given(CALLS, st.randoms(use_true_random=False))
def test_differences_of_shuffled_lists_are_the_same(
    calls: list[tuple[str, float | None, str | None, str]], random: Any
) -> None:
    """The order of rows says nothing, and each call of either list is found exactly once."""
    theirs = [
        listed(f"call-{place}", seconds, cost=cost, status=status)
        for place, (side, seconds, cost, status) in enumerate(calls)
        if side != "ours"
    ]
    ours = [known(f"call-{place}") for place, (side, *_) in enumerate(calls) if side != "theirs"]
    found = kinds(theirs, ours)
    counts = count_kinds(differences(theirs, ours))
    random.shuffle(theirs)
    random.shuffle(ours)

    assert kinds(theirs, ours) == found
    assert set(found) == {f"call-{place}" for place in range(len(calls))}
    assert sum(counts.values()) == len(calls)
    assert tuple(counts) == KINDS
    assert counts["matched"] + counts["drift"] + counts["phantom"] == len(ours)
