"""What a night writes: the run, its findings, and the calls that it recovers. Each function is one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Engine

from billing.database import rows, transaction, value
from billing.errors import PermanentError
from billing.organizations import find_organization
from billing.vapi import EndedCall, ListedCall

BATCH = 1000
"""Calls recorded in one transaction."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a run compares: calls that ended in `start <= t < end`; the list is read from `listed_from` on."""

    start: datetime
    end: datetime
    listed_from: datetime

    @property
    def in_words(self) -> str:
        """For people."""
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A call that the night recorded; `outcome` is that of its charge, or why it has none."""

    call_id: str
    organization_id: UUID | None
    outcome: str
    amount_micros: int | None
    known: bool
    """Whether somebody else recorded it between comparison and repair."""
    problem: str | None = None
    """Why it was refused; a finding for people."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference, and what was done about it."""

    kind: str
    call_id: str | None
    organization_id: UUID | None = None
    amount_micros: int | None = None
    outcome: str | None = None
    detail: dict[str, Any] | None = None


def start_run(
    engine: Engine, window: Window, *, organization: str | None, dry_run: bool, flow_run_id: UUID | None
) -> UUID:
    """Note that a run has begun; its id. `organization` is a name or an id.

    Raises:
        UnknownOrganization: there is none of that name or id.
    """
    with transaction(engine) as connection:
        organization_id = find_organization(connection, organization) if organization else None
        run_id: UUID = value(
            connection,
            "INSERT INTO reconciliation_runs (window_from, window_to, organization_id, dry_run, flow_run_id)"
            " VALUES (:start, :end, :organization_id, :dry_run, :flow_run_id) RETURNING id",
            start=window.start,
            end=window.end,
            organization_id=organization_id,
            dry_run=dry_run,
            flow_run_id=flow_run_id,
        )
    return run_id


def calls_of_run(engine: Engine, run_id: UUID, calls: Sequence[ListedCall]) -> list[ListedCall]:
    """Those of the calls that the run is about: all, or, by our routes, those of its organization."""
    with transaction(engine) as connection:
        answers = rows(
            connection,
            "SELECT listed.id FROM reconciliation_runs AS run, jsonb_to_recordset(CAST(:calls AS jsonb)) AS listed"
            ' (id text, "assistantId" text, "squadId" text, "phoneNumberId" text, "createdAt" timestamptz)'
            " WHERE run.id = :run_id AND (run.organization_id IS NULL OR run.organization_id = find_organization("
            'listed."assistantId", listed."squadId", listed."phoneNumberId", listed."createdAt"))',
            run_id=run_id,
            calls=msgspec.json.encode(calls).decode(),
        )
    wanted = {answer["id"] for answer in answers}
    return [call for call in calls if call.id in wanted]


def load_known_calls(engine: Engine, run_id: UUID, window: Window, listed_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Our calls that the provider's list should show, and those that it does show, whenever they were created."""
    with transaction(engine) as connection:
        return rows(
            connection,
            "SELECT calls.id AS call_id, calls.organization_id::text, created_at, duration_ms,"
            " provider_cost_micros AS cost_micros, NOT reconciled AS by_webhook"
            " FROM calls JOIN reconciliation_runs AS run ON run.id = :run_id"
            " AND (run.organization_id IS NULL OR run.organization_id = calls.organization_id)"
            " WHERE (created_at >= :listed_from AND created_at < :end) OR calls.id = ANY(:ids)",
            run_id=run_id,
            listed_from=window.listed_from,
            end=window.end,
            ids=list(listed_ids),
        )


def load_reported(engine: Engine, call_ids: Sequence[str]) -> set[str]:
    """Those of the calls whose end-of-call report lies in the inbox, applied or not: their webhook did arrive."""
    keys = [f"{call_id}:end-of-call-report" for call_id in call_ids]
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT split_part(delivery_key, ':', 1) AS call_id FROM events"
            " WHERE provider = 'vapi' AND delivery_key = ANY(:keys)",
            keys=keys,
        )
    return {row["call_id"] for row in found}


def record_missing(engine: Engine, calls: Sequence[EndedCall], run_id: UUID, *, dry_run: bool) -> list[Recovered]:
    """Insert calls flagged `reconciled` and charge them, by the function that webhooks go through.

    Safe to repeat: a call that is there already is left alone. A dry run does the same and takes it back, so what it
    shows is what would happen. One call that is refused does not keep the others from being billed.

    Raises:
        TransientError: worth another try.
    """
    try:
        return _record(engine, calls, run_id, dry_run=dry_run)
    except PermanentError as refused:
        if len(calls) == 1:
            return [Recovered(calls[0].id, None, "refused", None, known=False, problem=str(refused))]
    half = len(calls) // 2
    halves = (record_missing(engine, part, run_id, dry_run=dry_run) for part in (calls[:half], calls[half:]))
    return [call for part in halves for call in part]


def _record(engine: Engine, calls: Sequence[EndedCall], run_id: UUID, *, dry_run: bool) -> list[Recovered]:
    with transaction(engine) as connection:
        answers = rows(
            connection,
            "SELECT * FROM record_calls(CAST(:calls AS jsonb), true, :run_id)",
            calls=msgspec.json.encode(calls).decode(),
            run_id=run_id,
        )
        if dry_run:
            connection.rollback()
    return [Recovered(**answer) for answer in answers]


def correct_drift(engine: Engine, calls: Sequence[EndedCall], *, dry_run: bool) -> dict[str, int | None]:
    """Book what the provider's corrections are worth: micros by call id, None if it is not charged yet."""
    with transaction(engine) as connection:
        differences = {
            call.id: value(
                connection,
                "SELECT correct_call(:id, :started_at, :ended_at, :cost)",
                id=call.id,
                started_at=call.started_at,
                ended_at=call.ended_at,
                cost=call.provider_cost_micros,
            )
            for call in calls
        }
        if dry_run:
            connection.rollback()
    return differences


def finish_run(engine: Engine, run_id: UUID, found: Sequence[Finding], figures: dict[str, Any]) -> None:
    """Store the findings and the figures of a run together; `figures` are columns of `reconciliation_runs`."""
    with transaction(engine) as connection:
        value(
            connection,
            "INSERT INTO findings (run_id, kind, call_id, organization_id, amount_micros, outcome, detail)"
            " SELECT :run_id, kind, call_id, organization_id, amount_micros, outcome, coalesce(detail, '{}')"
            " FROM jsonb_to_recordset(CAST(:findings AS jsonb)) AS found (kind text, call_id text,"
            " organization_id uuid, amount_micros bigint, outcome text, detail jsonb) RETURNING 1",
            run_id=run_id,
            findings=msgspec.json.encode(found).decode(),
        )
        value(
            connection,
            "UPDATE reconciliation_runs SET state = 'completed', finished_at = now(),"
            " provider_calls = :provider_calls, known_calls = :known_calls, counts = CAST(:counts AS jsonb),"
            " ended_calls = :ended_calls, ended_by_webhook = :ended_by_webhook,"
            " reliability_ratio = :reliability_ratio, recovered_calls = :recovered_calls,"
            " recovered_micros = :recovered_micros, outstanding_micros = :outstanding_micros,"
            " report_path = :report_path WHERE id = :run_id RETURNING 1",
            run_id=run_id,
            **{**figures, "counts": msgspec.json.encode(figures["counts"]).decode()},
        )


def is_dry_run(engine: Engine, run_id: UUID) -> bool:
    """Whether the run only rehearses."""
    with transaction(engine) as connection:
        return bool(value(connection, "SELECT dry_run FROM reconciliation_runs WHERE id = :id", id=run_id))


def note_alert(engine: Engine, run_id: UUID, alert: str) -> None:
    """Keep whether Slack was told: `sent`, `not needed`, or why not."""
    with transaction(engine) as connection:
        value(
            connection,
            "UPDATE reconciliation_runs SET alert = :alert WHERE id = :run_id RETURNING 1",
            run_id=run_id,
            alert=alert,
        )


def fail_run(engine: Engine, run_id: UUID, error: str) -> None:
    """Note that a run could not compare."""
    with transaction(engine) as connection:
        value(
            connection,
            "UPDATE reconciliation_runs SET state = 'failed', finished_at = now(), error = :error"
            " WHERE id = :run_id RETURNING 1",
            run_id=run_id,
            error=error,
        )


def organization_names(engine: Engine) -> dict[UUID, str]:
    """For messages to people."""
    with transaction(engine) as connection:
        return {row["id"]: row["name"] for row in rows(connection, "SELECT id, name FROM organizations")}
