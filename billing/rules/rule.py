"""What a rule is: a look at the books, and words for what it saw."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from billing.alerts import Severity
from billing.incident_messages import Words
from billing.settings import Settings

EXAMPLES = 10
"""Of what is wrong, as many are named as a message shows."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What one look found."""

    key: str
    """Of its incident: the rule's name, with whatever tells several conditions of one rule apart after a colon."""
    failing: bool | None
    """None: this look cannot tell; an open incident stays open, and none is opened."""
    facts: Mapping[str, Any]
    """For the message: JSON of limited size, without secrets, bodies or phone numbers."""
    measured: str
    """For the table of rules, in a few words."""
    severity: Severity = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is watched."""

    name: str
    """Also the section of docs/runbook.md."""
    look: Callable[[Connection, Settings, datetime], list[Condition]]
    """One SELECT or a few in one transaction; `now` decides, and no clock is read."""
    words: Callable[[Mapping[str, Any]], Words]
    notes_itself: bool = False
    """Whether the look opens and closes its incidents too."""
