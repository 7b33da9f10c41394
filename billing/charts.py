"""Charts of a night, drawn on this machine: no browser, no network. Libraries are loaded when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from math import floor
from typing import TYPE_CHECKING, Any

from billing.figures import Reliability
from billing.literal import visible
from billing.messages import percent
from billing.report_history import HISTORY_DAYS, DayReliability

if TYPE_CHECKING:
    import altair as alt

WIDTH, HEIGHT, COUNT_HEIGHT = 760, 260, 70
"""In pixels, of the chart and of the counts below it."""
DAY_WIDTH = WIDTH / HISTORY_DAYS
GOOD, BAD, QUIET, INK, PAPER = "#2563a8", "#c8321f", "#b9c4d0", "#1f2933", "#ffffff"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
VEGALITE = "6.4"
"""The version of the drawing library that altair 6 writes for."""


def reliability_chart(
    history: Sequence[DayReliability], threshold: Decimal, organization: str | None = None
) -> alt.VConcatChart:
    """Share of calls reported by webhook, day by day over 30 days, with its 95 % interval, the threshold and counts.

    Days below the threshold are red; the title says how many, and of which organization if it is one alone. No
    history: axes, and a title that says so.
    """
    import altair as alt  # noqa: PLC0415 - costs time

    days = sorted(history, key=lambda day: day.day)
    data = alt.InlineData(values=_rows(days, threshold), format=alt.JsonDataFormat(type="json"))
    shares = _shares(alt, data, days, threshold)
    counts = _counts(alt, data, days)
    headline = alt.TitleParams(
        text=chart_title(days, threshold, organization),
        subtitle=f"Ended calls reported by webhook, per day (UTC); shaded: 95 % interval; dashed: alert below"
        f" {_short(threshold)}",
        anchor="start",
        fontSize=17,
        fontWeight=600,
        subtitleFontSize=12,
        subtitleColor="#52606d",
        subtitlePadding=6,
        offset=14,
        color=INK,
        font=FONT,
        subtitleFont=FONT,
    )
    chart: alt.VConcatChart = (
        alt.vconcat(shares, counts, spacing=10, title=headline, background=PAPER, padding=16)
        .resolve_scale(x="shared")
        .configure_view(stroke=None)
        .configure_axis(labelFont=FONT, titleFont=FONT, labelColor="#52606d", titleColor="#52606d", labelFontSize=11)
    )
    return chart


def chart_title(history: Sequence[DayReliability], threshold: Decimal, organization: str | None = None) -> str:
    """What the chart shows, in a sentence."""
    of = f" of {visible(organization)}" if organization else ""
    measured = [day for day in history if day.reliability.ended]
    if not measured:
        return f"No calls{of} in the last 30 days"
    below = [day for day in measured if day.reliability.is_below(threshold)]
    last = measured[-1]
    newest = f"{last.day:%-d %b}: {percent(last.reliability.ratio)}"
    noun = "day" if len(measured) == 1 else "days"
    if not below:
        return (
            f"Webhooks{of} stayed at or above {_short(threshold)} on all {len(measured)} {noun} with calls ({newest})"
        )
    return (
        f"Webhooks{of} fell below {_short(threshold)} on {len(below)} of {len(measured)} {noun} with calls ({newest})"
    )


def svg(chart: alt.VConcatChart) -> str:
    """The chart as SVG, to be set into a page as it is."""
    import vl_convert  # noqa: PLC0415 - costs time

    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=VEGALITE)
    return drawn


def png(chart: alt.VConcatChart, scale: float = 2) -> bytes:
    """The chart as PNG."""
    import vl_convert  # noqa: PLC0415 - costs time

    drawn: bytes = vl_convert.vegalite_to_png(chart.to_dict(), vl_version=VEGALITE, scale=scale)
    return drawn


def _rows(days: Sequence[DayReliability], threshold: Decimal) -> list[dict[str, Any]]:
    """Every day from the first to the last: one without calls interrupts the line."""
    if not days:
        return []
    known = {day.day: day for day in days}
    span = (days[-1].day - days[0].day).days + 1
    dates = [days[0].day + timedelta(days=number) for number in range(span)]
    return [_row(known.get(on, DayReliability(on, Reliability(0, 0))), threshold) for on in dates]


def _row(day: DayReliability, threshold: Decimal) -> dict[str, Any]:
    """One day for the chart. Noon, so that no time zone moves it to another day."""
    low, high = day.reliability.interval or (None, None)
    return {
        "day": f"{day.day.isoformat()}T12:00:00",
        "ratio": _float(day.reliability.ratio),
        "low": _float(low),
        "high": _float(high),
        "ended": day.reliability.ended,
        "below": day.reliability.is_below(threshold),
        "label": percent(day.reliability.ratio),
    }


def _shares(alt: Any, data: Any, days: Sequence[DayReliability], threshold: Decimal) -> Any:
    """Band, line, points and threshold."""
    base = alt.Chart(data, width=WIDTH, height=HEIGHT).encode(x=_day_axis(alt, days, labels=False))
    scale = alt.Scale(domain=[_lowest(days, threshold), 1.0], nice=False, zero=False)
    share = alt.Y(
        "ratio:Q",
        title=None,
        scale=scale,
        axis=alt.Axis(
            labelExpr="format(datum.value * 100, '~f') + ' %'",
            tickCount=6,
            grid=True,
            gridColor="#e4e7eb",
            domain=False,
            ticks=False,
        ),
    )
    colour = alt.when("datum.below").then(alt.value(BAD)).otherwise(alt.value(GOOD))
    band = base.mark_bar(opacity=0.2, clip=True, width=DAY_WIDTH - 1).encode(
        y=alt.Y("low:Q", scale=scale), y2="high:Q", color=colour
    )
    line = base.mark_line(color=GOOD, strokeWidth=2).encode(y=share)
    points = base.mark_point(filled=True, opacity=1, size=52, stroke=PAPER, strokeWidth=1.2).encode(
        y=share, color=colour
    )
    worst = (
        base.transform_filter("datum.below")
        .transform_window(rank="rank()", sort=[alt.SortField("ratio")])
        .transform_filter("datum.rank == 1")
        .mark_text(color=BAD, dy=16, fontSize=11, fontWeight=600, font=FONT)
        .encode(y=share, text="label:N")
    )
    limit = (
        alt.Chart(alt.InlineData(values=[{"threshold": float(threshold)}]))
        .mark_rule(color=BAD, strokeDash=[5, 4], strokeWidth=1.4)
        .encode(y=alt.Y("threshold:Q", scale=scale))
    )
    return alt.layer(band, limit, line, points, worst)


def _counts(alt: Any, data: Any, days: Sequence[DayReliability]) -> Any:
    """How many calls each day's share stands on."""
    return (
        alt.Chart(data, width=WIDTH, height=COUNT_HEIGHT)
        .mark_bar(color=QUIET, width=DAY_WIDTH * 0.6)
        .encode(
            x=_day_axis(alt, days, labels=True),
            y=alt.Y(
                "ended:Q",
                title="calls",
                axis=alt.Axis(
                    tickCount=2,
                    tickMinStep=1,
                    format="~s",
                    grid=False,
                    domain=False,
                    ticks=False,
                    titleFontWeight="normal",
                ),
            ),
        )
    )


def _day_axis(alt: Any, days: Sequence[DayReliability], *, labels: bool) -> Any:
    """30 days up to the newest, however many of them have calls; without any, no dates."""
    last = days[-1].day if days else date(1970, 1, HISTORY_DAYS)
    labels = labels and bool(days)
    first = last - timedelta(days=HISTORY_DAYS - 1)
    return alt.X(
        "day:T",
        title=None,
        scale=alt.Scale(domain=[f"{first}T00:00:00", f"{last}T23:59:59"]),
        axis=alt.Axis(
            format="%-d %b",
            labels=labels,
            ticks=labels,
            grid=False,
            values=[f"{first + timedelta(days=days)}T12:00:00" for days in range(HISTORY_DAYS - 1, -1, -4)],
            domainColor="#9aa5b1",
            tickColor="#9aa5b1",
            labelOverlap=True,
        ),
    )


def _lowest(days: Sequence[DayReliability], threshold: Decimal) -> float:
    """Where the axis begins: below everything measured, in steps of 5 %, so that small differences can be seen."""
    ratios = [float(day.reliability.ratio) for day in days if day.reliability.ratio is not None]
    lowest = min([float(threshold), *ratios])
    return max(0.0, floor((lowest - 0.03) * 20) / 20)


def _short(share: Decimal) -> str:
    """`95 %`, `99.5 %`."""
    return f"{(share * 100).normalize():f} %"


def _float(share: Decimal | None) -> float | None:
    """For drawing alone; money never goes this way."""
    return None if share is None else float(share)
