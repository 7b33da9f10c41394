"""Alerts: what is wrong becomes an incident; its messages wait in an outbox until somebody has sent them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Engine

from billing.database import rows, transaction, value

Severity = Literal["info", "warning", "critical"]

REMIND_AFTER = timedelta(hours=24)
"""A condition that lasts is told once a day."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The incident that a look at a condition opened, kept open or closed."""

    incident: int
    enqueued: Literal["raised", "reminder", "cleared"] | None
    """The message that this look added to the outbox."""
    since: datetime
    times: int
    """How often it was found failing."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A message to be sent, held by its claim."""

    id: int
    key: str
    kind: Literal["raised", "reminder", "cleared", "summary", "heartbeat"]
    severity: Severity
    facts: Mapping[str, Any]
    claim_token: UUID | None = None
    incident_id: int | None = None
    since: datetime | None = None
    """When its incident was opened; with `until`, when it was closed."""
    until: datetime | None = None
    times_seen: int | None = None
    told: bool = False
    """Whether an earlier message of the incident was sent."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one message."""

    id: int
    key: str
    kind: str
    outcome: str
    """`sent`, `possibly sent: …` if Slack gave no answer, `could not alert: …`, or `held back …`."""
    failed: bool

    @property
    def sent(self) -> bool:
        """Whether Slack took it."""
        return self.outcome == "sent"


def note_condition(
    engine: Engine,
    key: str,
    failing: bool,
    facts: Mapping[str, Any],
    severity: Severity = "warning",
    *,
    remind_after: timedelta | None = REMIND_AFTER,
) -> Noted | None:
    """Tell the incidents what somebody saw; None if nothing is wrong and nothing was.

    `facts` become JSON: no secrets, bodies or phone numbers. `remind_after`: None never reminds.
    """
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT * FROM note_condition(:key, :failing, CAST(:facts AS jsonb), :severity, :remind_after)",
            key=key,
            failing=failing,
            facts=msgspec.json.encode(facts).decode(),
            severity=severity,
            remind_after=remind_after,
        )
    return Noted(**found[0]) if found else None


def note_dead_events(engine: Engine) -> int:
    """Open and close the incidents of dead events; how many messages wait to be sent, of whatever kind."""
    with transaction(engine) as connection:
        waiting: int = value(connection, "SELECT note_dead_events()")
    return waiting


def enqueue_message(
    engine: Engine, kind: Literal["summary", "heartbeat"], key: str, facts: Mapping[str, Any]
) -> int | None:
    """Add a message of its own to the outbox; None if that key had its message."""
    with transaction(engine) as connection:
        alert_id: int | None = value(
            connection,
            "SELECT enqueue_message(:kind, :key, CAST(:facts AS jsonb))",
            kind=kind,
            key=key,
            facts=msgspec.json.encode(facts).decode(),
        )
    return alert_id


def claim_alerts(
    engine: Engine, *, limit: int = 1, lease: timedelta = timedelta(minutes=5), only_critical: bool = False
) -> list[Alert]:
    """Take messages that are due, oldest first; nobody else sends them until the lease ends."""
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT * FROM claim_alerts(:limit, :lease, :only_critical)",
            limit=limit,
            lease=lease,
            only_critical=only_critical,
        )
    return [Alert(**row) for row in found]


def note_outcome(engine: Engine, alert: Alert, outcome: str, *, sent: bool) -> None:
    """Keep what came of sending a claimed message; one that was not sent is due again a little later."""
    with transaction(engine) as connection:
        value(
            connection,
            "SELECT note_alert_outcome(:id, :claim_token, :outcome, :sent)",
            id=alert.id,
            claim_token=alert.claim_token,
            outcome=outcome,
            sent=sent,
        )


def note_in_doubt(engine: Engine, alert: Alert, reason: str) -> str:
    """Keep that Slack may have posted a claimed message; what is noted: `possibly sent: …`, not to be repeated.

    Or `could not alert: …` if the message before it ended like that too: then it is due again a little later.
    """
    with transaction(engine) as connection:
        noted: str = value(
            connection,
            "SELECT note_alert_in_doubt(:id, :claim_token, :reason)",
            id=alert.id,
            claim_token=alert.claim_token,
            reason=reason,
        )
    return noted


def hold_alerts(engine: Engine, outcome: str, *, except_critical: bool = False) -> list[Told]:
    """Note on all that waits why it cannot be sent now, and answer with it."""
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT * FROM hold_alerts(:outcome, :except_critical)",
            outcome=outcome,
            except_critical=except_critical,
        )
    return [Told(**row, outcome=outcome, failed=outcome.startswith("could not")) for row in found]


def outcome_of(engine: Engine, noted: Noted | None) -> str:
    """What people were told of it: `not needed`, `told already`, `sent`, or why not."""
    if noted is None:
        return "not needed"
    with transaction(engine) as connection:
        [latest] = rows(
            connection,
            "SELECT outcome, sent_at < last_seen_at AS told_before FROM alerts"
            " JOIN incidents ON incidents.id = incident_id WHERE incident_id = :id ORDER BY alerts.id DESC LIMIT 1",
            id=noted.incident,
        )
    if latest["told_before"] and noted.enqueued is None:
        return "told already"
    return str(latest["outcome"] or "waits for a sender")
