"""A soak that would fill the disk says so before it begins."""

from pathlib import Path

from .__main__ import lacking_space
from .soak import Plan


def test_day_that_does_not_fit_is_refused_with_what_to_do() -> None:
    """200 a second are 17 million in a day, and 104 GB."""
    day = Plan(86_400, 200, Path("soak.csv"))

    assert lacking_space(day, 200_000_000_000) is None
    assert "104 GB" in str(lacking_space(day, 80_000_000_000))
    assert "TMPDIR" in str(lacking_space(day, 80_000_000_000))
