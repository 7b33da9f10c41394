"""The chart of 30 days: it says what happened, and it draws what it says, on this machine alone."""

import re
from datetime import date, timedelta
from decimal import Decimal

import pytest

from billing.charts import chart_title, png, reliability_chart, svg
from billing.figures import Reliability
from billing.report_history import DayReliability

THRESHOLD = Decimal("0.95")
LAST = date(2026, 11, 22)


def days(*shares: tuple[int, int]) -> list[DayReliability]:
    """Days up to the last one, each with calls by webhook and ended calls."""
    first = LAST - timedelta(days=len(shares) - 1)
    return [DayReliability(first + timedelta(days=n), Reliability(*share)) for n, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("history", "title"),
    [
        (days(), "No calls in the last 30 days"),
        (days((0, 0)), "No calls in the last 30 days"),
        (days((95, 100)), "Webhooks stayed at or above 95 % on all 1 day with calls (22 Nov: 95.00 %)"),
        (
            days((94, 100), (0, 0), (99999, 100000)),
            "Webhooks fell below 95 % on 1 of 2 days with calls (22 Nov: 99.99 %)",
        ),
    ],
)
def test_title_states_what_the_chart_shows(history: list[DayReliability], title: str) -> None:
    """Exactly on the threshold is well, and a day without calls is no bad day."""
    assert chart_title(history, THRESHOLD) == title


def test_title_names_the_organization_if_it_is_one_alone() -> None:
    """With calls and without, and in the picture."""
    assert chart_title(days(), THRESHOLD, "Acme") == "No calls of Acme in the last 30 days"
    assert chart_title(days((9, 10)), THRESHOLD, "Acme").startswith("Webhooks of Acme fell below 95 %")
    assert "Webhooks of Acme &amp; Sons stayed" in svg(reliability_chart(days((1, 1)), THRESHOLD, "Acme & Sons"))


def test_each_day_with_calls_is_a_point_and_a_bar() -> None:
    """Days without calls are gaps; the worst day below the threshold is named."""
    drawn = svg(reliability_chart(days((90, 100), (0, 0), (100, 100), (80, 100)), THRESHOLD))

    assert len(re.findall('aria-roledescription="point"', drawn)) == 3
    assert "80.00 %" in drawn
    assert "90.00 %" not in drawn
    assert "95 %" in drawn
    assert "22 Nov" in drawn


@pytest.mark.parametrize("history", [days(), days((0, 3)), days(*[(100, 100)] * 30), days(*[(1, 2)] * 40)])
def test_any_history_can_be_drawn(history: list[DayReliability]) -> None:
    """Nothing, one bad day, a perfect month, more than a month: a picture, without any address to load from."""
    drawn = svg(reliability_chart(history, THRESHOLD))

    assert drawn.startswith("<svg")
    assert set(re.findall(r'https?://[^"\s]+', drawn)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_chart_is_drawn_as_a_picture_too() -> None:
    """For places that show no SVG."""
    assert png(reliability_chart(days((9, 10)), THRESHOLD), scale=1).startswith(b"\x89PNG")
