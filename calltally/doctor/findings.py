"""What the doctor says: one sentence on one thing, and how to mend it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, or may; somebody should look."""
    PROBLEM = "problem"
    """Calls or payments are lost or late because of it, or nobody would notice if they were."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. No text of it may hold a secret."""

    area: str
    verdict: Verdict
    what: str
    fix: str | None = None
    """The exact command, patch or place to click."""
    facts: dict[str, Any] | None = None
    """For programs: ids, names, the patch as JSON."""


@dataclass(frozen=True, slots=True)
class Area:
    """Writes the findings of one area."""

    name: str

    def ok(self, what: str, **facts: Any) -> Finding:
        """Nothing to do."""
        return Finding(self.name, Verdict.OK, what, facts=facts or None)

    def warning(self, what: str, fix: str, **facts: Any) -> Finding:
        """It works, or may."""
        return Finding(self.name, Verdict.WARNING, what, fix, facts or None)

    def problem(self, what: str, fix: str, **facts: Any) -> Finding:
        """Something is lost or late because of it."""
        return Finding(self.name, Verdict.PROBLEM, what, fix, facts or None)
