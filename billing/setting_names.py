"""Names of settings that were meant for one of ours and are not it: a misspelt setting would pass in silence."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final

OURS: Final = (
    *("CALLTALLY_", "COMPLETENESS_", "DRIFT_", "OPERATOR_", "OUTSTANDING_", "QUIET_", "RECEIVER_", "RELIABILITY_"),
    *("REPORTS_", "RUNBOOK_", "SLACK_", "STRIPE_", "TWILIO_", "VAPI_", "WEBHOOK_", "WORKER_"),
)
"""How names begin that hardly anybody else has."""
CLOSE, VERY_CLOSE = 0.8, 0.91
"""Shares of equal letters, by difflib: for names that begin like ours, and for all others."""


def near_misses(names: Iterable[str], known: Collection[str], given: Collection[str]) -> dict[str, str]:
    """Which of the names are almost one of the `known` ones, by what was probably meant; all in capitals.

    Whoever has `given` the one that was meant has another use for the name beside it.
    """
    found = {}
    for name in sorted({name.upper() for name in names} - {*known}):
        likeness = CLOSE if name.startswith(OURS) else VERY_CLOSE
        meant = get_close_matches(name, known, 1, likeness)
        if meant and meant[0] not in given:
            found[name] = meant[0]
    return found
