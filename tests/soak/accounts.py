"""At the end: is what is in the books exactly what was planted?"""

from collections import Counter
from typing import Any

from tests.scenarios.installation import Installation

from .traffic import Planted

OPENING_TOPUPS = "topup:opening-"
STUCK = (
    "SELECT count(*) AS stuck FROM events WHERE state IN ('waiting', 'active', 'delayed')"
    " AND received_at < now() - interval '1 minute'"
)


def differences(installation: Installation, planted: Planted, answered: Counter[int]) -> list[str]:
    """One line per figure that is not as planted; none if all is well."""
    found = _figures(installation)
    expected: dict[str, Any] = {
        "answers by status": dict(planted.statuses),
        "calls charged": planted.charged_calls,
        "charges with a key of their own": planted.charged_calls,
        "payments credited": planted.payments,
        "broken invariants": [],
        "events stuck": 0,
    }
    found["answers by status"] = dict(answered)
    problems = [
        f"{name}: {found[name]} instead of {expected[name]}" for name in expected if found[name] != expected[name]
    ]
    return problems + _event_differences(installation, planted)


def _event_differences(installation: Installation, planted: Planted) -> list[str]:
    rows = installation.ask("SELECT provider, type, state, count(*) AS events FROM events GROUP BY 1, 2, 3")
    found = {(row["provider"], row["type"], row["state"]): row["events"] for row in rows}
    return [
        f"events {' '.join(key)}: {found.get(key, 0)} instead of {planted.events[key]}"
        for key in sorted({*found, *planted.events})
        if found.get(key, 0) != planted.events[key]
    ]


def _figures(installation: Installation) -> dict[str, Any]:
    charges = installation.ask(
        "SELECT count(*) AS charges, count(DISTINCT idempotency_key) AS keys FROM charges"
        " WHERE idempotency_key LIKE 'call:%' AND state <> 'free'"
    )[0]
    payments = installation.ask(
        "SELECT count(*) AS payments FROM transfers WHERE kind = 'topup' AND NOT starts_with(idempotency_key, :own)",
        own=OPENING_TOPUPS,
    )[0]
    return {
        "calls charged": charges["charges"],
        "charges with a key of their own": charges["keys"],
        "payments credited": payments["payments"],
        "broken invariants": installation.books.broken(),
        "events stuck": installation.ask(STUCK)[0]["stuck"],
    }
