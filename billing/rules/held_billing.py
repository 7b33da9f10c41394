"""No day's billing is held back: where Vapi's list and its own totals disagree, its calls and their money wait."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from billing.held import held_parts
from billing.incident_messages import Words
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings

NAME = "held_billing"
DAY = timedelta(days=1)
CRITICAL_BEFORE = timedelta(days=3)
"""So long before Vapi forgets the oldest of the calls there is still time for a person to do something."""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition; days that Vapi no longer keeps are over."""
    held = held_parts(connection, now - settings.vapi_retention)
    length = sum((end - start for start, end in held), start=timedelta())
    days = -(-length // DAY)
    forgotten = held[0][0] + settings.vapi_retention if held else None
    facts = {
        "days": days,
        "parts": [f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC" for start, end in held[:EXAMPLES]],
        "forgotten_at": f"{forgotten:%Y-%m-%d %H:%M} UTC" if forgotten else "never",
    }
    severe = forgotten is not None and forgotten - now < CRITICAL_BEFORE
    return [Condition(NAME, bool(held), facts, f"{days} days held", "critical" if severe else "warning")]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    days = f"{facts['days']} {'day' if facts['days'] == 1 else 'days'}"
    return Words(
        headline=f"Billing of {days} is held: Vapi's list and its own totals disagree",
        all_clear="Vapi's list is complete again: no day's billing is held",
        next_step=(
            "Each night lists those days again and bills them once both agree; `calltally reconcile` does so now. If "
            "the totals are wrong for good, `COMPLETENESS_STOPS_BILLING=false` bills what is listed."
        ),
        values={"Vapi forgets the oldest": facts["forgotten_at"]},
        paragraphs={"Calls created": "\n".join(facts["parts"])},
    )


RULE = Rule(NAME, look, words)
