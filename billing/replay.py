"""Replaying ended events: put them back in line, or rehearse first and then apply exactly what was shown."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine

from billing import inbox
from billing.applying import apply_within
from billing.database import rows, transaction
from billing.errors import PermanentError
from billing.inbox import LEASE, ClaimedEvent
from billing.process import process_name
from billing.settings import get_settings


class PlanChanged(PermanentError):
    """What would happen now is not what was shown; nothing was booked."""


@dataclass(frozen=True)
class Selection:
    """Which events: all that fit every given criterion."""

    ids: Sequence[int] | None = None
    state: str | None = None
    type: str | None = None
    provider: str | None = None
    error: str | None = None
    """Text that the reason contains, in any case."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What a replay does: how the events end, and the transfers that it books."""

    outcomes: list[dict[str, Any]]
    transfers: list[dict[str, Any]]

    @property
    def digest(self) -> str:
        """Short, and the same only for the same plan."""
        content = msgspec.json.encode((self.outcomes, self.transfers), order="deterministic")
        return hashlib.sha256(content).hexdigest()[:16]


def select_events(engine: Engine, selection: Selection) -> list[int]:
    """The ids of the events meant, oldest first; only ended or parked ones whose body is still there."""
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT id FROM events WHERE state IN ('dead', 'parked', 'skipped', 'done')"
            " AND EXISTS (SELECT FROM event_bodies AS stored"
            " WHERE stored.received_at = events.received_at AND stored.event_id = events.id)"
            " AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(:ids))"
            " AND (CAST(:state AS text) IS NULL OR state = :state)"
            " AND (CAST(:type AS text) IS NULL OR type = :type)"
            " AND (CAST(:provider AS text) IS NULL OR provider = :provider)"
            " AND (CAST(:error AS text) IS NULL OR strpos(lower(reason), lower(:error)) > 0)"
            " AND (CAST(:since AS timestamptz) IS NULL OR received_at >= :since)"
            " AND (CAST(:until AS timestamptz) IS NULL OR received_at < :until) ORDER BY id",
            ids=None if selection.ids is None else list(selection.ids),
            state=selection.state,
            type=selection.type,
            provider=selection.provider,
            error=selection.error,
            since=selection.since,
            until=selection.until,
        )
    return [row["id"] for row in found]


def replay(engine: Engine, ids: Sequence[int]) -> list[int]:
    """Put events back in line, for the worker; the ids of those that were."""
    with transaction(engine) as connection:
        return [row["id"] for row in rows(connection, "SELECT replay_events(:ids) AS id ORDER BY id", ids=list(ids))]


def rehearse(engine: Engine, ids: Sequence[int]) -> Plan:
    """Apply the events for once and take it all back: what would happen.

    Raises:
        BillingError: an event would fail; the message says why.
    """
    with transaction(engine) as connection:
        plan = _apply_now(connection, ids)
        connection.rollback()
    return plan


def apply_plan(engine: Engine, ids: Sequence[int], digest: str) -> Plan:
    """Apply the events here and now, if it comes to exactly what the rehearsal showed.

    Raises:
        PlanChanged: it does not; nothing was booked.
    """
    with transaction(engine) as connection:
        plan = _apply_now(connection, ids)
        if plan.digest != digest:
            connection.rollback()
            raise PlanChanged(
                f"the books have moved since the rehearsal (plan {digest}, now {plan.digest}): nothing was booked. "
                "Rehearse again with --dry-run"
            )
    return plan


def _apply_now(connection: Connection, ids: Sequence[int]) -> Plan:
    rows(connection, "SELECT replay_events(:ids)", ids=list(ids))
    # As the worker does, in batches for which there is room; within this transaction they are whole or not at all.
    while claimed := _claim_some(connection, ids):
        apply_within(connection, claimed)
    return Plan(
        outcomes=rows(
            connection, "SELECT id, state, reason FROM events WHERE id = ANY(:ids) ORDER BY id", ids=list(ids)
        ),
        # Rows that this very transaction wrote bear its number.
        transfers=rows(
            connection,
            "SELECT idempotency_key, kind, name AS organization, transfers.currency,"
            " CASE WHEN from_account = organization_id THEN -amount_micros ELSE amount_micros END AS amount_micros"
            " FROM transfers JOIN organizations ON organizations.id = organization_id"
            " WHERE transfers.xmin = pg_current_xact_id()::xid ORDER BY idempotency_key",
        ),
    )


def _claim_some(connection: Connection, ids: Sequence[int]) -> list[ClaimedEvent]:
    claimed = rows(
        connection,
        "SELECT * FROM claim_these_events(:ids, :worker, :lease, :limit, :max_bytes) ORDER BY id",
        ids=list(ids),
        worker=process_name(),
        lease=LEASE,
        limit=get_settings().worker_batch_limit,
        max_bytes=inbox.CLAIM_BYTES,
    )
    return [ClaimedEvent(**row) for row in claimed]
