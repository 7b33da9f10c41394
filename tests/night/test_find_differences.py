"""Two lists of calls are compared exactly, in any order, without a float."""

from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.reconcile import KINDS, SETTLING, Tolerances, count_kinds, find_differences
from billing.vapi import ListedCall, UnreadableRow

from .listed import (
    ACME,
    AS_OF,
    CREATED,
    GLOBEX,
    RETENTION,
    differences,
    known,
    known_frame,
    listed,
    provider_frame,
    route,
)

routed = partial(listed, assistant_id="asst")
INTEGERS = ("duration_ms", "cost_micros", "duration_ms_known", "cost_micros_known")
BEYOND_FLOATS = 2**53 + 1
A_MOMENT_AGO = AS_OF - timedelta(minutes=1)
LONG_AGO = AS_OF - RETENTION


def ended_before(moment: datetime, age: timedelta) -> dict[str, Any]:
    """A call of our books that ended so long before."""
    return {**known(), "ended_at": moment - age}


@pytest.mark.parametrize(
    ("theirs", "ours", "kind"),
    [
        (routed(), known(), "matched"),
        (listed(), known(), "matched"),
        (routed(), known(organization_id=None), "matched"),
        (listed(), known(organization_id=None), "unattributed"),
        (listed(), None, "unattributed"),
        (routed(), None, "missing"),
        (listed(seconds=None), None, "unconnected"),
        (routed(seconds=61), known(), "drift"),
        (routed(seconds=60.001), known(), "drift"),
        (routed(cost="0.1001"), known(), "matched"),
        (routed(cost="0.0999"), known(), "matched"),
        (routed(cost="0.100101"), known(), "drift"),
        (routed(cost="0.099899"), known(), "drift"),
        (routed(cost=None), known(), "matched"),
        (routed(), known(cost_micros=None), "matched"),
        (routed(seconds=None, cost=None), known(seconds=None, cost_micros=None), "matched"),
        (routed(), known(organization_id=GLOBEX), "drift"),
        (routed(status="in-progress"), None, "open"),
        (routed(status="in-progress"), known(), "drift"),
        (routed(status="in-progress", updated_at=A_MOMENT_AGO), known(), "matched"),
        (routed(status="in-progress"), known(created_at=A_MOMENT_AGO), "matched"),
        (routed(status="in-progress"), ended_before(AS_OF, timedelta(minutes=10)), "matched"),
        (routed(status="in-progress"), ended_before(AS_OF, SETTLING - timedelta(milliseconds=1)), "matched"),
        (routed(status="in-progress"), ended_before(AS_OF, SETTLING), "drift"),
        (routed(updated_at=AS_OF - SETTLING + timedelta(milliseconds=1)), None, "open"),
        (routed(updated_at=AS_OF - SETTLING), None, "missing"),
        (routed(seconds=61, updated_at=A_MOMENT_AGO), known(), "matched"),
        (listed(updated_at=A_MOMENT_AGO), known(organization_id=None), "matched"),
        (None, known(), "phantom"),
        (None, known(created_at=LONG_AGO), "phantom"),
        (None, known(created_at=LONG_AGO - timedelta(microseconds=1)), "beyond_retention"),
        (UnreadableRow("call", "no time"), None, "unreadable"),
        (UnreadableRow("call", "no time"), known(), "unreadable"),
    ],
)
def test_call_of_either_list_has_one_kind(
    theirs: ListedCall | UnreadableRow | None, ours: dict[str, Any] | None, kind: str
) -> None:
    """Each way in which two lists can agree or differ has its own name."""
    found = differences([theirs] if theirs else [], [ours] if ours else [])

    assert dict(zip(found["call_id"], found["kind"], strict=True)) == {"call": kind}
    assert found["drift_fields"].notna().tolist() == [kind == "drift"]
    assert sum(count_kinds(found).values()) == 1


def test_drift_names_every_field_in_which_a_call_differs() -> None:
    """One, several, or all that can differ at once."""
    theirs = [routed("one", 61), routed("more", 61, cost="0.2"), routed("running", status="in-progress", cost="0.2")]
    ours = [known("one"), known("more", organization_id=GLOBEX), known("running", organization_id=GLOBEX)]
    found = differences(theirs, ours).set_index("call_id")["drift_fields"]

    assert found.to_dict() == {
        "one": "duration",
        "more": "duration,cost,organization",
        "running": "ended_state,cost,organization",
    }


@pytest.mark.parametrize("theirs", [[], [routed("a"), listed("b", None)]])
@pytest.mark.parametrize("ours", [[], [known("a"), known("c")]])
def test_empty_lists_keep_columns_and_types(theirs: list[ListedCall], ours: list[dict[str, Any]]) -> None:
    """Neither an empty list nor an absent partner turns an integer into a float or a string into an object."""
    found, full = differences(theirs, ours, routes=[]), differences([routed("a")], [known("a")])

    assert len(found) == len({call.id for call in theirs} | {row["call_id"] for row in ours})
    assert {str(found[column].dtype) for column in INTEGERS} == {"Int64"}
    assert [dtype.name for dtype in found.dtypes] == [dtype.name for dtype in full.dtypes]
    assert list(found.columns) == list(full.columns)


def test_amounts_beyond_floats_stay_exact() -> None:
    """One micro more than the tolerance is found above 2**53, beside calls that have no partner."""
    cost = f"{Decimal(BEYOND_FLOATS).scaleb(-6):f}"
    theirs = [routed(call_id, cost=cost) for call_id in ("same", "near", "other", "alone")]
    ours = [
        known("same", cost_micros=BEYOND_FLOATS),
        known("near", cost_micros=BEYOND_FLOATS - 100),
        known("other", cost_micros=BEYOND_FLOATS - 101),
        known("ours"),
    ]
    found = differences(theirs, ours).set_index("call_id")

    assert found["kind"].to_dict() == {
        "same": "matched",
        "near": "matched",
        "other": "drift",
        "alone": "missing",
        "ours": "phantom",
    }
    assert found.loc["alone", "cost_micros"] == BEYOND_FLOATS
    assert found.loc["other", "cost_micros_known"] == BEYOND_FLOATS - 101


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=40)
def test_tolerance_is_exact_for_every_integer(theirs: int, ours: int, tolerance: int) -> None:
    """No difference is too large to be seen."""
    provider = provider_frame([routed()]).assign(cost_micros=pd.array([theirs], dtype="Int64"))
    found = find_differences(
        provider,
        known_frame([known(cost_micros=ours)]),
        pd.DataFrame([route()]),
        AS_OF,
        kept_since=AS_OF - RETENTION,
        tolerances=Tolerances(cost_micros=tolerance),
    )

    assert found["kind"].tolist() == ["drift" if abs(theirs - ours) > tolerance else "matched"]


def test_call_listed_twice_counts_as_last_updated() -> None:
    """Overlapping windows show a call more than once; the latest version of it holds, the others are told apart."""
    early, late = routed(seconds=60), routed(seconds=90, updated_at=AS_OF - timedelta(hours=1))

    for theirs in ([late, early], [early, late]):
        agreed, drifted = differences(theirs, [known(seconds=90)]), differences(theirs, [known(seconds=60)])
        assert dict(zip(agreed["duration_ms"], agreed["kind"], strict=True)) == {
            90_000: "matched",
            60_000: "duplicate",
        }
        assert dict(zip(drifted["duration_ms"], drifted["kind"], strict=True)) == {
            90_000: "drift",
            60_000: "duplicate",
        }


def test_readable_row_holds_before_a_broken_one_of_the_same_call() -> None:
    """Whichever of them comes first; the books' numbers stand beside the readable one alone."""
    readable, broken = routed(), UnreadableRow("call", "cut")
    for found in (differences([readable, broken], [known()]), differences([broken, readable], [known()])):
        ours = found.set_index("kind")["duration_ms_known"]

        assert sorted(ours.index) == ["matched", "unreadable"]
        assert ours.dropna().to_dict() == {"matched": 60_000}


def test_rows_without_an_id_belong_to_nobody() -> None:
    """Two of them are two findings, not one call."""
    found = differences([UnreadableRow(None, "no id"), UnreadableRow(None, "no id")], [known()])

    assert found["kind"].tolist() == ["unreadable", "unreadable", "phantom"]


def test_comparison_of_one_organization_leaves_the_others_out() -> None:
    """By routes or by books; a call that only one of them ascribes to it is its drift, and nobody's phantom."""
    theirs = [routed("own"), routed("moved"), routed("lost"), listed("stray"), listed("other", assistant_id="theirs")]
    ours = [known("own"), known("moved", organization_id=GLOBEX), known("other", organization_id=GLOBEX)]
    routes = [route(), route("theirs", GLOBEX)]
    own = differences(theirs, ours, routes, ACME)
    other = differences(theirs, ours, routes, GLOBEX)

    assert dict(zip(own["call_id"], own["kind"], strict=True)) == {
        "own": "matched",
        "moved": "drift",
        "lost": "missing",
    }
    assert dict(zip(other["call_id"], other["kind"], strict=True)) == {"moved": "drift", "other": "matched"}
    assert own.index.tolist() == [0, 1, 2]


def test_payer_is_told_by_routes_and_else_by_books() -> None:
    """At the time when the call was created."""
    handover = CREATED + timedelta(seconds=1)
    routes = [route(valid_to=handover), route(organization_id=GLOBEX, valid_from=handover)]
    theirs = [routed("before"), routed("after", created_at=handover), listed("booked"), listed("nobody")]
    found = differences(theirs, [known("booked"), known("ours")], routes).set_index("call_id")["organization_id"]

    assert found.dropna().to_dict() == {"before": ACME, "after": GLOBEX, "booked": ACME, "ours": ACME}


def test_call_that_the_books_name_twice_is_refused() -> None:
    """It would be counted twice."""
    with pytest.raises(pd.errors.MergeError):
        differences([routed()], [known(), known()])


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["both", "theirs", "twice", "ours", "broken"]),
        st.sampled_from([60, 61, None]),
        st.sampled_from(["0.1", "0.2", "9007199254.740993", None]),
        st.sampled_from(["ended", "in-progress"]),
        st.sampled_from(["asst", "unrouted"]),
        st.sampled_from([CREATED, A_MOMENT_AGO, LONG_AGO - timedelta(days=1)]),
        st.sampled_from([ACME, GLOBEX, None]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_no_call_and_no_micro_is_lost_between_the_kinds(calls: list[tuple[Any, ...]]) -> None:
    """Numbers, durations and costs of either list, added up over the kinds, are those of the list itself."""
    theirs: list[ListedCall | UnreadableRow] = []
    ours: list[dict[str, Any]] = []
    for place, (side, seconds, cost, status, assistant, created_at, organization_id) in enumerate(calls):
        name = f"call-{place}"
        row = listed(name, seconds, cost=cost, status=status, assistant_id=assistant, created_at=created_at)
        if side == "broken":
            theirs.append(UnreadableRow(name, "cut"))
        elif side != "ours":
            theirs += [row] * (2 if side == "twice" else 1)
        if side != "theirs":
            ours.append(known(name, created_at=created_at, organization_id=organization_id))
    found = differences(theirs, ours)
    by_kind = found.groupby("kind", observed=False)[list(INTEGERS)].sum()
    lists = {"": provider_frame(theirs), "_known": known_frame(ours)}
    pairs = len({row["call_id"] for row in ours} & set(provider_frame(theirs)["call_id"]))

    assert tuple(count_kinds(found)) == KINDS
    assert sum(count_kinds(found).values()) == len(found) == len(theirs) + len(ours) - pairs
    for suffix, side in lists.items():
        for column in ("duration_ms", "cost_micros"):
            assert by_kind[f"{column}{suffix}"].sum() == side[column].sum()


VERSIONS = st.lists(
    st.builds(
        routed,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([60, 61, None]),
        cost=st.sampled_from(["0.1", "0.2", None]),
        status=st.sampled_from(["ended", "in-progress"]),
        updated_at=st.just(CREATED),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(VERSIONS, st.randoms(use_true_random=False))
def test_differences_of_shuffled_lists_are_the_same(theirs: list[ListedCall], random: Any) -> None:
    """The order of rows says nothing, even between versions of a call that were updated at the same moment."""
    ours = [known(name) for name in ("a", "b", "ours")]
    found = in_order(differences(theirs, ours))
    random.shuffle(theirs)
    random.shuffle(ours)

    pd.testing.assert_frame_equal(in_order(differences(theirs, ours)), found)


def in_order(found: pd.DataFrame) -> pd.DataFrame:
    """As a set of rows."""
    texts = found.astype("string")
    return texts.sort_values(list(texts.columns), ignore_index=True)
