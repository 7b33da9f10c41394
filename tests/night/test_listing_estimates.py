"""The estimates that decide how much is asked for at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.vapi_windows import PageSize, Piece, Stretch, expected_rows


@given(
    length=st.integers(1, 10**9),
    per_ms=st.floats(0, 10),
    answers=st.lists(st.tuples(st.integers(0, 99), st.integers(10, 1000)), max_size=30),
)
def test_pieces_of_a_stretch_follow_each_other(length: int, per_ms: float, answers: list[tuple[int, int]]) -> None:
    """Whatever is learned on the way, nothing is left out between two pieces, and nothing is asked for twice."""
    stretch, reached = Stretch(0, length, per_ms), 0
    for rows, limit in answers:
        if stretch.start == stretch.end:
            break
        piece = stretch.take(limit)
        assert (piece.start, piece.length > 0) == (reached, True)
        stretch.learn(piece, rows, limit)
        reached = piece.end

    assert stretch.start == reached <= stretch.end == length


@given(length=st.integers(2, 10**9), rows=st.integers(10, 1000), shown=st.floats(0, 1))
def test_piece_that_was_full_is_cut_smaller_each_time(length: int, rows: int, shown: float) -> None:
    """So that in the end a single millisecond is asked for, however the calls lie."""
    piece = Piece(0, length, Stretch(0, 0), 0.0)
    again = piece.cut(min(rows, 100), rows, int(shown * (length - 1)))

    assert (again.start, again.end) == (0, length)
    assert again.take(rows).length <= max(1, length // 2)


def test_empty_stretches_are_crossed_in_ever_longer_steps() -> None:
    """From one millisecond to a day in nine steps."""
    stretch, steps = Stretch(0, 86_400_000, per_ms=70.0), 0
    while stretch.start < stretch.end:
        piece = stretch.take(100)
        stretch.learn(piece, 0, 100)
        steps += 1

    assert steps < 12


def test_density_that_is_known_fills_pages_nearly() -> None:
    """Three standard deviations short of full."""
    stretch = Stretch(0, 1_000_000, per_ms=0.01)

    assert stretch.take(100).length == 7_000
    assert stretch.take(1000).length == pytest.approx(90_500, rel=0.01)
    assert [expected_rows(limit) for limit in (10, 100)] == [5, 70]


@pytest.mark.parametrize(
    ("size_of_row", "seconds", "limit"),
    [
        (2_600, 0.1, 1000),
        (20_000, 0.1, 200),
        (41_000, 0.1, 100),
        (2_600, 5.0, 100),
        (150_000, 0.1, 50),
        (3_000_000, 0.1, 10),
    ],
)
def test_page_size_follows_the_size_of_answers(size_of_row: int, seconds: float, limit: int) -> None:
    """Larger only while answers are small and quick; smaller when they become huge."""
    page_size = PageSize(100, 1000)
    for _ in range(20):
        page_size.answered(page_size.limit, page_size.limit * size_of_row, seconds)

    assert page_size.limit == limit


def test_page_size_says_nothing_after_few_rows() -> None:
    """A single short call is no sign that a thousand are."""
    page_size = PageSize(100, 1000)
    page_size.answered(1, 1_367, 0.1)

    assert page_size.limit == 100


def test_failures_of_one_crowd_halve_once() -> None:
    """Six requests that failed with a hundred rows each say the same thing."""
    page_size = PageSize(100, 1000)
    for _ in range(6):
        page_size.failed(100)

    assert page_size.limit == 50


def test_page_size_that_failed_is_tried_again_after_a_while() -> None:
    """An outage passes; the size that failed is not avoided for ever, and never beneath the smallest."""
    page_size = PageSize(100, 1000)
    for _ in range(10):
        page_size.failed(page_size.limit)
    assert page_size.limit == 10
    limits = []
    for _ in range(400):
        page_size.answered(page_size.limit, page_size.limit * 2_600, 0.1)
        limits.append(page_size.limit)

    assert max(limits[:40]) == 10
    assert limits[-1] == 1000
