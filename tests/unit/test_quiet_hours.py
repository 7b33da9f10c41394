"""Quiet hours by the clocks of a place, through midnight and through the change of clocks."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from billing.quiet_hours import QuietHours
from billing.settings import Settings


def at(written: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "zone", "now", "until"),
    [
        ("22:00-06:00", "UTC", "2026-11-22T21:59", None),
        ("22:00-06:00", "UTC", "2026-11-22T22:00", "2026-11-23T06:00"),
        ("22:00-06:00", "UTC", "2026-11-23T05:59", "2026-11-23T06:00"),
        ("22:00-06:00", "UTC", "2026-11-23T06:00", None),
        ("13:00-14:00", "UTC", "2026-11-22T13:30", "2026-11-22T14:00"),
        ("13:00-14:00", "UTC", "2026-11-22T14:30", None),
        ("22:00-06:00", "Europe/Berlin", "2026-11-22T21:30", "2026-11-23T05:00"),
        ("22:00-06:00", "America/New_York", "2026-11-22T21:30", None),
        ("22:00-06:00", "America/New_York", "2026-11-23T04:00", "2026-11-23T11:00"),
        # Clocks go forward: that night is an hour shorter. Back: an hour longer.
        ("22:00-06:00", "Europe/Berlin", "2026-03-28T21:30", "2026-03-29T04:00"),
        ("22:00-06:00", "Europe/Berlin", "2026-10-24T20:30", "2026-10-25T05:00"),
        ("22:00-06:00", "Europe/Berlin", "2026-10-25T05:00", None),
        # An end that the clocks show twice is the first, though they go back past it; so is a begin.
        ("22:00-02:30", "Europe/Berlin", "2026-10-25T00:29", "2026-10-25T00:30"),
        ("22:00-02:30", "Europe/Berlin", "2026-10-25T00:30", None),
        ("22:00-02:30", "Europe/Berlin", "2026-10-25T01:15", None),
        ("02:30-06:00", "Europe/Berlin", "2026-10-25T00:29", None),
        ("02:30-06:00", "Europe/Berlin", "2026-10-25T01:15", "2026-10-25T05:00"),
        ("02:30-02:45", "Europe/Berlin", "2026-10-25T00:40", "2026-10-25T00:45"),
        ("02:30-02:45", "Europe/Berlin", "2026-10-25T01:40", None),
    ],
)
def test_quiet_hours_say_until_when(hours: str, zone: str, now: str, until: str | None) -> None:
    """Half-open, and None outside of them."""
    assert QuietHours.read(hours, zone).until(at(now)) == (until and at(until))


@pytest.mark.parametrize(
    ("hours", "zone"),
    [
        ("22-6 o'clock", "UTC"),
        ("22:00", "UTC"),
        ("22:00-22:00", "UTC"),
        ("25:00-06:00", "UTC"),
        ("22:00-06:00", "Mars"),
    ],
)
def test_quiet_hours_that_cannot_be_read_stop_the_program(hours: str, zone: str) -> None:
    """At the start, and with an example of how to write them."""
    with pytest.raises(ValidationError, match="quiet hours"):
        Settings(_env_file=None, quiet_hours=hours, quiet_hours_timezone=zone)
