"""What a call costs, reckoned beside SQL: each term at its edge."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.reckoning import amount_micros, billed_seconds, duration_ms

START = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "terms", "seconds"),
    [
        pytest.param(10_000, (1, 5, 10), 0, id="exactly the free seconds bill no minimum"),
        pytest.param(10_001, (1, 5, 10), 5, id="a millisecond beyond them does"),
        pytest.param(0, (60, 60, 0), 0, id="nothing bills nothing"),
        pytest.param(1, (60, 0, 0), 60, id="a begun increment is a whole one"),
        pytest.param(60_000, (60, 0, 0), 60, id="a whole increment is no more"),
        pytest.param(60_001, (60, 0, 0), 120, id="and then the next one begins"),
        pytest.param(31_000, (1, 30, 0), 31, id="more than the minimum"),
    ],
)
def test_billed_seconds_at_the_edge_of_each_term(
    milliseconds: int, terms: tuple[int, int, int], seconds: int
) -> None:
    """Increment, minimum and free seconds, in that order."""
    assert billed_seconds(milliseconds, *terms) == seconds


@pytest.mark.parametrize(("seconds", "per_minute", "micros"), [(1, 90, 2), (1, 89, 1), (61, 700_000, 711_667)])
def test_amount_is_rounded_half_up(seconds: int, per_minute: int, micros: int) -> None:
    """Once, at the end."""
    assert amount_micros(seconds, per_minute) == micros


@pytest.mark.parametrize(("micros", "milliseconds"), [(499, 0), (500, 1), (1_499, 1), (-5_000_000, 0)])
def test_duration_is_rounded_half_up_and_never_negative(micros: int, milliseconds: int) -> None:
    """To whole milliseconds."""
    assert duration_ms(START, START + timedelta(microseconds=micros)) == milliseconds


@pytest.mark.parametrize("times", [(None, START), (START, None)])
def test_call_without_a_begin_or_an_end_has_no_duration(times: tuple[datetime | None, datetime | None]) -> None:
    """It never connected, or has not ended."""
    assert duration_ms(*times) == 0
