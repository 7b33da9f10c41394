"""What a night keeps of itself: the run, its figures and its findings. Each function is one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine

from billing.database import rows, transaction, value
from billing.errors import PermanentError
from billing.figures import Finding, Window
from billing.halves import by_halves
from billing.held import held_parts
from billing.organizations import find_organization
from billing.reconcile import SETTLING
from billing.vapi_list import floor_to_millisecond

FINDINGS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is to do."""

    window: Window
    as_of: datetime
    """When the provider's list is read; of a plan, when it was read for the rehearsal."""
    kind: str = "night"
    """`night`, `recent` or `backfill`."""
    organization: str | None = None
    """Name or id; its name once the run has begun; None: all."""
    organization_id: UUID | None = None
    """Known once the run has begun."""
    dry_run: bool = False
    applies_run_id: UUID | None = None
    """The rehearsal that is carried out."""
    plan_digest: str | None = None
    is_booked: bool = False
    """Of a plan: whether a run has booked it already, whose process then died."""


LOCK = "SELECT pg_advisory_lock(hashtextextended('reconciliation run ' || CAST(:run_id AS text), 0))"
"""Held by the process of a run as long as it lives."""
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('reconciliation run ' || CAST(:run_id AS text), 0))"
FAIL_ABANDONED = (
    "UPDATE reconciliation_runs SET state = 'failed', finished_at = now(),"
    " error = 'its process ended; run it again for the same window' WHERE state = 'running'"
    " AND NOT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (classid::bigint << 32 | objid::bigint)"
    " = hashtextextended('reconciliation run ' || reconciliation_runs.id, 0)"
    " AND pg_has_role(usesysid, 'calltally_nights', 'MEMBER')) RETURNING 1"
)
"""Any login can take a lock of that name; only of those who may run nights does it say that one is alive."""

TAKE_OVER = (
    "UPDATE reconciliation_runs AS dead SET reported_by = this.id FROM reconciliation_runs AS this"
    " WHERE this.id = :run_id AND dead.id <> this.id AND dead.state = 'failed' AND NOT dead.dry_run"
    " AND dead.applies_run_id IS NULL"
    " AND dead.window_from < this.window_to AND dead.window_to > this.listed_from"
    " AND (this.organization_id IS NULL OR dead.organization_id = this.organization_id)"
    " AND (dead.reported_by IS NULL OR EXISTS (SELECT FROM reconciliation_runs AS later"
    " WHERE later.id = dead.reported_by AND later.state = 'failed')) RETURNING 1"
)

CORRECTED_BY_FAILED_RUNS = (
    "SELECT booked.call_id, calls.organization_id, sum(difference_micros)::bigint AS amount_micros,"
    " jsonb_build_object('duration', jsonb_build_array((array_agg(duration_before_ms ORDER BY booked.id))[1],"
    " (array_agg(duration_after_ms ORDER BY booked.id DESC))[1]), 'recorded_by', dead.id) AS detail"
    " FROM reconciliation_runs AS dead JOIN run_corrections AS booked ON booked.run_id = dead.id"
    " JOIN calls ON calls.id = booked.call_id WHERE dead.reported_by = :run_id"
    " GROUP BY dead.id, booked.call_id, calls.organization_id ORDER BY min(booked.id)"
)


@contextmanager
def marked_alive(engine: Engine, run_id: UUID) -> Iterator[None]:
    """Hold a lock that ends with this process, so that the next run can tell a dead one from a slow one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        value(connection, LOCK, run_id=run_id)
        try:
            yield
        finally:
            value(connection, UNLOCK, run_id=run_id)


def start_run(
    engine: Engine, run_id: UUID, order: Order, flow_run_id: UUID | None, kept_since: datetime | None = None
) -> Order:
    """Note that a run has begun, while it is marked alive; earlier ones whose process is gone have failed.

    What those booked stands, and the next run for their window completes it. Answers with the order, in which an
    organization has its id and its name, however it was typed, and in which a night lists from the oldest calls that
    are held back, as long as the provider keeps them (`kept_since`).

    Raises:
        UnknownOrganization: there is none of that name or id.
    """
    with transaction(engine) as connection:
        value(connection, FAIL_ABANDONED)
        if order.organization:
            organization_id = find_organization(connection, order.organization)
            name = value(connection, "SELECT name FROM organizations WHERE id = :id", id=organization_id)
            order = replace(order, organization=name, organization_id=organization_id)
        if order.kind == "night" and order.applies_run_id is None and kept_since is not None:
            order = replace(order, window=_with_what_is_held(connection, order.window, kept_since))
        value(
            connection,
            "INSERT INTO reconciliation_runs (id, kind, window_from, window_to, listed_from, as_of, organization_id,"
            " dry_run, applies_run_id, flow_run_id) VALUES (:run_id, :kind, :start, :end, :listed_from, :as_of,"
            " :organization_id, :dry_run, :applies_run_id, :flow_run_id) ON CONFLICT (id) DO NOTHING RETURNING 1",
            run_id=run_id,
            kind=order.kind,
            start=order.window.start,
            end=order.window.end,
            listed_from=order.window.listed_from,
            as_of=order.as_of,
            organization_id=order.organization_id,
            dry_run=order.dry_run,
            applies_run_id=order.applies_run_id,
            flow_run_id=flow_run_id,
        )
    return order


def is_compared(engine: Engine, window: Window) -> bool:
    """Whether a run for all organizations has compared exactly this window, and left nothing of it for another.

    So it ended well, after the last calls of the window were settled, and held no part of the list back. A call that
    is held for a person waits for no other run.
    """
    with transaction(engine) as connection:
        found = value(
            connection,
            "SELECT 1 FROM reconciliation_runs AS run WHERE state = 'completed' AND NOT dry_run"
            " AND organization_id IS NULL AND window_from = :start AND window_to = :end"
            " AND as_of >= window_to + :settling"
            " AND NOT EXISTS (SELECT FROM jsonb_array_elements(completeness) AS part"
            " WHERE coalesce((part ->> 'held')::boolean, part ->> 'verdict' = 'incomplete'))"
            " AND NOT EXISTS (SELECT FROM findings WHERE run_id = run.id AND outcome = 'held'"
            " AND NOT detail ? 'problem') LIMIT 1",
            start=window.start,
            end=window.end,
            settling=SETTLING,
        )
    return found is not None


def finish_run(engine: Engine, run_id: UUID, found: Sequence[Finding], figures: Mapping[str, Any]) -> None:
    """Store the findings and the figures of a run together, once; `figures` are columns of `reconciliation_runs`."""
    with transaction(engine) as connection:
        finished = value(
            connection,
            "UPDATE reconciliation_runs SET state = 'completed', finished_at = now(),"
            " provider_calls = :provider_calls, known_calls = :known_calls, counts = CAST(:counts AS jsonb),"
            " ended_calls = :ended_calls, ended_by_webhook = :ended_by_webhook,"
            " reliability_ratio = :reliability_ratio, reliability_low = :reliability_low,"
            " reliability_high = :reliability_high, recovered_calls = :recovered_calls,"
            " recovered_micros = :recovered_micros, outstanding_micros = :outstanding_micros,"
            " money = CAST(:money AS jsonb), groups = CAST(:groups AS jsonb),"
            " completeness = CAST(:completeness AS jsonb), cause = :cause, plan = CAST(:plan AS jsonb),"
            " plan_digest = :plan_digest WHERE id = :run_id AND state <> 'completed' RETURNING 1",
            run_id=run_id,
            **{name: _as_json(content) for name, content in figures.items()},
        )
        if finished:
            _store_findings(connection, run_id, found)


def take_over(engine: Engine, run_id: UUID) -> list[Finding]:
    """What failed runs recorded and corrected in the stretch that this run has listed, and no run has reported.

    A failed run has neither figures nor findings, and its calls are in the books, so that no later comparison finds
    them: this one tells of them. Safe to repeat. What a run took over that fails in turn is taken over again. Calls
    that never connected are no findings. A plan that was booked is finished by applying it again.
    """
    with transaction(engine) as connection:
        value(connection, TAKE_OVER, run_id=run_id)
        corrected = rows(connection, CORRECTED_BY_FAILED_RUNS, run_id=run_id)
        found = rows(
            connection,
            "SELECT calls.id, calls.organization_id, charges.amount_micros, CASE WHEN calls.held IS NOT NULL"
            " THEN 'held' WHEN calls.organization_id IS NULL THEN 'unattributed'"
            " ELSE coalesce(charges.state, 'unpriced') END AS outcome, jsonb_build_object("
            " 'assistant_id', assistant_id, 'squad_id', squad_id, 'workflow_id', workflow_id, 'phone_number_id',"
            " phone_number_id, 'metadata', metadata, 'ended_reason', ended_reason,"
            " 'ended_at', ended_at, 'duration_ms', calls.duration_ms, 'provider_cost_micros', provider_cost_micros,"
            " 'recorded_by', dead.id) || CASE WHEN calls.held IS NULL THEN '{}'"
            " ELSE jsonb_build_object('problem', calls.held) END AS detail FROM reconciliation_runs AS dead"
            " JOIN calls ON calls.reconciliation_run_id = dead.id"
            " LEFT JOIN charges ON charges.idempotency_key = 'call:' || calls.id"
            " WHERE dead.reported_by = :run_id AND calls.reconciled"
            " AND (calls.started_at IS NOT NULL OR calls.held IS NOT NULL)"
            " ORDER BY calls.ended_at, calls.id",
            run_id=run_id,
        )
    recorded = [
        Finding(
            "unattributed" if row["outcome"] == "unattributed" else "missing",
            row["id"],
            row["organization_id"],
            row["amount_micros"],
            row["outcome"],
            row["detail"],
        )
        for row in found
    ]
    return [*recorded, *(Finding("drift", outcome="corrected", **row) for row in corrected)]


def note_report(engine: Engine, run_id: UUID, url: str) -> None:
    """Keep where the files of a run are."""
    with transaction(engine) as connection:
        value(
            connection,
            "UPDATE reconciliation_runs SET report_path = :url WHERE id = :run_id RETURNING 1",
            run_id=run_id,
            url=url,
        )


def note_alert(engine: Engine, run_id: UUID, alert: str) -> str:
    """Keep whether people were told, unless the outbox noted it already; what is noted in the end.

    `sent`, `not needed`, or why not, which is a finding of its own.
    """
    with transaction(engine) as connection:
        noted: str = value(connection, "SELECT note_run_alert(:run_id, :alert)", run_id=run_id, alert=alert)
    return noted


def note_finding(engine: Engine, run_id: UUID, found: Finding) -> None:
    """Keep what was found after the run was finished."""
    with transaction(engine) as connection:
        _store_findings(connection, run_id, [found])


def fail_run(engine: Engine, run_id: UUID, error: str) -> None:
    """Note that a run could not compare; one that has finished stays so, whatever went wrong while showing it."""
    with transaction(engine) as connection:
        value(
            connection,
            "UPDATE reconciliation_runs SET state = 'failed', finished_at = now(), error = :error"
            " WHERE id = :run_id AND state = 'running' RETURNING 1",
            run_id=run_id,
            error=error,
        )


@dataclass(frozen=True, slots=True)
class Customer:
    """An organization, as messages name it and as its money counts."""

    name: str
    currency: str


def load_customers(engine: Engine) -> dict[UUID, Customer]:
    """All organizations."""
    with transaction(engine) as connection:
        return {
            row["id"]: Customer(row["name"], row["currency"])
            for row in rows(connection, "SELECT id, name, currency FROM organizations")
        }


def _with_what_is_held(connection: Connection, window: Window, kept_since: datetime) -> Window:
    held = [floor_to_millisecond(start) for start, _ in held_parts(connection, kept_since)]
    return replace(window, listed_from=min([window.listed_from, *held]))


def _store_findings(connection: Connection, run_id: UUID, found: Sequence[Finding]) -> None:
    def store(some: Sequence[Finding]) -> list[None]:
        value(
            connection,
            "INSERT INTO findings (run_id, kind, call_id, organization_id, amount_micros, outcome, detail)"
            " SELECT :run_id, kind, call_id, organization_id, amount_micros, outcome, coalesce(detail, '{}')"
            " FROM jsonb_to_recordset(CAST(:findings AS jsonb)) AS found (kind text, call_id text,"
            " organization_id uuid, amount_micros bigint, outcome text, detail jsonb) RETURNING 1",
            run_id=run_id,
            findings=msgspec.json.encode(some).decode(),
        )
        return []

    def refused(finding: Finding, reason: PermanentError) -> list[None]:
        detail = {"problem": f"its details could not be kept: {reason}"}
        return store(
            [Finding(finding.kind, None, amount_micros=finding.amount_micros, outcome="noted", detail=detail)]
        )

    for start in range(0, len(found), FINDINGS_AT_ONCE):
        by_halves(connection, found[start : start + FINDINGS_AT_ONCE], store, refused)


def _as_json(content: Any) -> Any:
    return msgspec.json.encode(content).decode() if isinstance(content, Mapping | list | tuple) else content
