"""A worker can apply nothing, since the database refuses it: what people are told of that."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from billing.errors import BillingError
from billing.incident_messages import Words

NAME: Final = "worker_paused"
NAMES_OURS_ALONE: Final = {"25", "42"}
"""Classes of SQLSTATEs whose messages name things of ours, and no values, which might be a body's."""


def describe(error: BillingError) -> str:
    """What a worker was answered, for logs and people."""
    state = str(error.facts.get("sqlstate") or "")
    kind = type(error).__name__
    if state[:2] in NAMES_OURS_ALONE:
        return f"{kind}, {state}: {error}"
    return f"{kind}, SQLSTATE {state}" if state else kind


def facts_of(worker: str, error: BillingError | None, since: datetime | None) -> dict[str, str]:
    """For the incident; no error: it is over."""
    return {
        "worker": worker,
        "trouble": describe(error) if error else "",
        "since": f"{since:%Y-%m-%d %H:%M} UTC" if since else "",
    }


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    return Words(
        headline="A worker pauses: the database refuses what it needs, and webhooks wait",
        all_clear="Webhooks are applied again",
        next_step=(
            "Nothing is lost, no event is to blame, and the worker tries again by itself. If a function, table or "
            "grant is missing: `calltally migrate`, by the version that runs. If the database is read-only: let "
            "`DATABASE_URL` name the primary. If it is full or away: `calltally doctor`."
        ),
        values={"Worker": facts["worker"], "Since": facts["since"]},
        paragraphs={"It was answered": facts["trouble"]},
    )
