"""A ratio of webhooks, how sure it is, and when it is an alarm."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.figures import Reliability

THRESHOLD = Decimal("0.95")
SHARES = st.integers(1, 10**6).flatmap(lambda ended: st.tuples(st.integers(0, ended), st.just(ended)))


@pytest.mark.parametrize(
    ("by_webhook", "ended", "is_below"),
    [
        (95, 100, False),
        (94, 100, True),
        (96, 100, False),
        (949_999, 1_000_000, True),
        (950_000, 1_000_000, False),
        (19, 20, False),
        (0, 1, True),
        (0, 0, False),
    ],
)
def test_alarm_is_due_below_the_threshold_alone(by_webhook: int, ended: int, is_below: bool) -> None:
    """Exactly 95 % is well; one call in a million below it is not; no calls are no alarm."""
    assert Reliability(by_webhook, ended).is_below(THRESHOLD) is is_below


@pytest.mark.parametrize(("ended", "is_below"), [(4, False), (5, True)])
def test_too_few_calls_are_no_alarm(ended: int, is_below: bool) -> None:
    """One lost call of one is no outage if somebody says so."""
    assert Reliability(0, ended).is_below(THRESHOLD, min_calls=5) is is_below


def test_no_calls_have_no_ratio() -> None:
    """A quiet day is neither reliable nor unreliable."""
    quiet = Reliability(0, 0)

    assert (quiet.ratio, quiet.interval, quiet.lost) == (None, None, 0)


@pytest.mark.parametrize(
    ("by_webhook", "ended", "low", "high"),
    [
        (81, 263, "0.2553", "0.3662"),
        (15, 148, "0.0624", "0.1605"),
        (0, 20, "0.0000", "0.1611"),
        (1, 29, "0.0061", "0.1718"),
    ],
)
def test_interval_is_the_published_one(by_webhook: int, ended: int, low: str, high: str) -> None:
    """R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998),
    table I, method 3 (score): four examples at 95 %."""
    interval = Reliability(by_webhook, ended).interval

    assert interval is not None
    assert tuple(f"{end:.4f}" for end in interval) == (low, high)


@given(SHARES)
def test_interval_lies_around_the_ratio_and_within_0_and_1(share: tuple[int, int]) -> None:
    """For any number of calls, none or all of which told us."""
    reliability = Reliability(*share)
    ratio, interval = reliability.ratio, reliability.interval

    assert ratio is not None
    assert interval is not None
    assert 0 <= interval[0] <= ratio + Decimal("1e-8")
    assert ratio - Decimal("1e-8") <= interval[1] <= 1
    assert reliability.by_webhook + reliability.lost == reliability.ended


@given(SHARES)
def test_losses_mirror_the_interval(share: tuple[int, int]) -> None:
    """Counting lost calls instead of told ones turns the interval round."""
    told, lost = Reliability(*share), Reliability(share[1] - share[0], share[1])

    assert told.interval is not None
    assert lost.interval is not None
    assert abs(told.interval[0] + lost.interval[1] - 1) <= Decimal("2e-8")
