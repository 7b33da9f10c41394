"""One number says everywhere how often a failure that can pass is tried."""

import re
from pathlib import Path

import pytest

from tasks.inbox import apply_event
from tasks.retries import DELAYS_SECONDS, RETRIES, TRIES

ROOT = Path(__file__).parents[2]
SAID = {
    "README.md": r"tried five times: among others, at once\s+alone, and after 2, 4 and 8 s",
    "docs/runbook.md": r"came five times \(among others, at once\s+alone, after 2, 4 and 8 s\)",
    "CHANGELOG.md": r"tried five times, the last after 2, 4 and 8 s",
}


def test_event_is_tried_in_its_batch_and_by_a_task_that_waits() -> None:
    """The task's first try comes at once, since others had spoilt the batch."""
    assert TRIES == 1 + 1 + len(DELAYS_SECONDS) == 5
    assert (apply_event.retries, apply_event.retry_delay_seconds) == (RETRIES, [2, 4, 8])


@pytest.mark.parametrize("page", SAID)
def test_pages_say_the_same_number(page: str) -> None:
    """In words that a person reads."""
    assert re.search(SAID[page], (ROOT / page).read_text())
