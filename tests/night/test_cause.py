"""The likely cause is what lost calls have in common and other calls have not."""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from math import comb, isclose
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.call_frames import INSTANT
from billing.cause import NOTHING_STANDS_OUT, SIGNIFICANCE, hypergeometric_tail, likely_cause

from .listed import AS_OF

START = AS_OF - timedelta(days=1)
Row = dict[str, Any]


def calls(
    number: int,
    lost: int = 0,
    *,
    assistant: str | None = None,
    phone: str | None = None,
    reason: str | None = None,
    hour: int | None = None,
) -> Iterator[Row]:
    """So many ended calls, the first of them lost; they spread over a day and over others' traits unless told."""
    for place in range(number):
        yield {
            "kind": "missing" if place < lost else "matched",
            "by_webhook": None if place < lost else True,
            "assistant_id": assistant or f"assistant-{place % 7}",
            "phone_number_id": phone or f"phone-{place % 5}",
            "ended_reason": reason or f"reason-{place % 3}",
            "ended_at": START + timedelta(hours=place % 24 if hour is None else hour, seconds=place % 3600),
        }


def cause(*groups: Iterator[Row], reported: set[str] | None = None) -> str | None:
    """What is named as the cause."""
    rows = [row for group in groups for row in group]
    frame = pd.DataFrame(
        {
            "call_id": pd.Series([f"call-{place}" for place in range(len(rows))], dtype="string"),
            "started_at": pd.Series([row["ended_at"] - timedelta(seconds=1) for row in rows], dtype=INSTANT),
            "ended_at": pd.Series([row["ended_at"] for row in rows], dtype=INSTANT),
            "created_at_known": pd.Series([None] * len(rows), dtype=INSTANT),
            "started_at_known": pd.Series([None] * len(rows), dtype=INSTANT),
            "ended_at_known": pd.Series([None] * len(rows), dtype=INSTANT),
            "assistant_id_known": pd.Series([None] * len(rows), dtype="category"),
            "by_webhook": pd.Series([row["by_webhook"] for row in rows], dtype="boolean"),
            **{
                name: pd.Series([row[name] for row in rows], dtype="category")
                for name in ("kind", "assistant_id", "phone_number_id", "ended_reason")
            },
        }
    )
    return likely_cause(frame, reported or set(), START, AS_OF)


def test_nothing_lost_has_no_cause() -> None:
    """Neither a night without calls nor one whose calls all told us."""
    assert cause() is None
    assert cause(calls(50)) is None
    assert cause(calls(2, lost=2), reported={"call-0", "call-1"}) is None


def test_assistant_whose_calls_get_lost_is_named_with_its_numbers() -> None:
    """How many of the lost, how many of its own, and how many elsewhere."""
    assert cause(calls(24, lost=23, assistant="a3d6"), calls(264, lost=2)) == (
        "23 of 25 lost calls went through assistant a3d6 (23 of its 24 calls; elsewhere 2 of 264)"
    )


@pytest.mark.parametrize(
    ("trait", "words"),
    [
        ({"assistant": "x"}, "went through assistant x"),
        ({"phone": "x"}, "went through phone number x"),
        ({"hour": 17}, "ended in the hour from 2026-11-03 20:00 UTC"),
        ({"reason": "x"}, "ended with x"),
    ],
)
def test_every_trait_can_be_the_cause(trait: dict[str, Any], words: str) -> None:
    """Assistant, phone number, hour and reason."""
    found = cause(calls(30, lost=24, **trait), calls(300, lost=3))

    assert found is not None
    assert f"24 of 27 lost calls {words} (24 of its " in found


def test_assistant_with_most_calls_is_no_cause_of_most_losses() -> None:
    """It holds 90 % of what got lost because it holds 90 % of everything."""
    assert cause(calls(900, lost=90, assistant="large"), calls(100, lost=10, assistant="small")) == NOTHING_STANDS_OUT


def test_small_assistant_is_found_beside_a_large_one() -> None:
    """It loses most of its calls, and the large one hardly any."""
    found = cause(calls(900, lost=5, assistant="large"), calls(20, lost=18, assistant="small"))

    assert found is not None
    assert "assistant small (18 of its 20 calls; elsewhere 5 of 900)" in found


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([calls(1, lost=1, assistant="x"), calls(3_000)], "one lost call shares everything with itself"),
        ([calls(40, lost=40)], "all are lost, wherever"),
        ([calls(40, lost=20, assistant="x")], "there is nothing else to compare with"),
        ([calls(10, lost=9, assistant="x"), calls(280, lost=14)], "less than half of the losses"),
        ([calls(3_000, lost=300, assistant="x"), calls(3_000, lost=200)], "less than twice as often as elsewhere"),
        ([calls(2, lost=2, assistant="x"), calls(3)], "two of five may be luck"),
    ],
)
def test_nothing_is_named_without_evidence(groups: list[Iterator[Row]], why: str) -> None:
    """People act on a named cause, so a weak one is not named."""
    assert cause(*groups) == NOTHING_STANDS_OUT, why


def test_of_two_that_explain_the_same_the_assistant_is_named() -> None:
    """An assistant and its own phone number share their calls."""
    found = cause(calls(20, lost=20, assistant="x", phone="y"), calls(300))

    assert found is not None
    assert "assistant x" in found


def test_call_without_assistant_or_number_has_no_such_trait() -> None:
    """What is absent is not what calls have in common."""
    lost = ({**row, "assistant_id": None, "phone_number_id": None} for row in calls(20, lost=20))

    assert cause(lost, calls(300)) == NOTHING_STANDS_OUT


@pytest.mark.slow
def test_luck_alone_rarely_names_a_cause() -> None:
    """Of 200 nights whose losses fall anywhere, no more than the stated share names one."""
    random, named = Random(1), 0
    for _ in range(200):
        rows = list(calls(150))
        for row in random.sample(rows, random.randint(2, 12)):
            row |= {"kind": "missing", "by_webhook": None}
        named += cause(iter(rows)) != NOTHING_STANDS_OUT

    assert named <= 200 * SIGNIFICANCE


POPULATIONS = st.integers(1, 60).flatmap(
    lambda population: st.tuples(
        st.integers(0, population), st.integers(0, population), st.just(population), st.integers(0, population)
    )
)


@given(POPULATIONS)
def test_tail_is_that_of_the_hypergeometric_distribution(numbers: tuple[int, int, int, int]) -> None:
    """Counted out in whole numbers."""
    draws, marked, population, successes = numbers
    ways = sum(
        comb(marked, hits) * comb(population - marked, draws - hits)
        for hits in range(successes, min(draws, marked) + 1)
    )

    assert isclose(
        hypergeometric_tail(successes, draws, marked, population),
        Fraction(ways, comb(population, draws)),
        rel_tol=1e-9,
        abs_tol=1e-300,
    )
