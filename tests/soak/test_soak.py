"""Ten minutes of everything at once: exact, drained, and no process that grows.

`SOAK_MINUTES=3` in the environment makes it shorter (growth is judged from five minutes on), `SOAK_RATE=50` calmer.
"""

import os
from pathlib import Path

import pytest

from .__main__ import soak, table
from .soak import Plan

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
RATE = float(os.environ.get("SOAK_RATE", "200"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(MINUTES * 60 + 900)]


def test_installation_under_mixed_traffic_stays_exact_and_small(tmp_path: Path) -> None:
    """Faults, kills and nights amid 200 events a second leave every figure as planted, and memory flat."""
    result = soak(Plan(MINUTES * 60, RATE, tmp_path / "soak.csv"))

    assert result.problems == [], table(result)
