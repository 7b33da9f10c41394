"""Plans: a repair that is rehearsed, looked at, and then booked exactly so, in one transaction, or not at all.

What books a plan leaves a mark on it in the same transaction. Whoever finds the mark books nothing again, and
finishes from what the rehearsal has stored, without asking the provider.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine

from billing.database import rows, transaction, value
from billing.errors import PermanentError
from billing.figures import (
    CHARGED,
    Completeness,
    Finding,
    GroupReliability,
    Night,
    NightMoney,
    Recovered,
    Reliability,
    Rows,
    Window,
)
from billing.repair import BATCH, Corrected, Repair, as_json, correct, record, worth
from billing.runs import Order, load_customers
from billing.vapi import EndedCall

PLAN = (
    "SELECT run.*, (SELECT id FROM reconciliation_runs AS done"
    " WHERE done.applies_run_id = run.id AND done.state = 'completed' LIMIT 1) AS done_by,"
    " (SELECT state FROM reconciliation_runs AS booking WHERE booking.id = run.applied_by_run_id) AS booking_state"
    " FROM reconciliation_runs AS run WHERE run.id = :id FOR UPDATE OF run"
)
MARK = (
    "UPDATE reconciliation_runs SET applied_at = now(), applied_by_run_id = :run_id WHERE id = :plan_id RETURNING 1"
)
COPY_FIGURES = (
    "UPDATE reconciliation_runs AS run SET state = 'completed', finished_at = now(),"
    " provider_calls = plan.provider_calls, known_calls = plan.known_calls, counts = plan.counts,"
    " ended_calls = plan.ended_calls, ended_by_webhook = plan.ended_by_webhook,"
    " reliability_ratio = plan.reliability_ratio, reliability_low = plan.reliability_low,"
    " reliability_high = plan.reliability_high, recovered_calls = plan.recovered_calls,"
    " recovered_micros = plan.recovered_micros, outstanding_micros = plan.outstanding_micros,"
    " money = plan.money, groups = plan.groups, completeness = plan.completeness, cause = plan.cause,"
    " report_path = plan.report_path"
    " FROM reconciliation_runs AS plan WHERE plan.id = run.applies_run_id AND run.id = :run_id RETURNING 1"
)
COPY_FINDINGS = (
    "INSERT INTO findings (run_id, kind, call_id, organization_id, amount_micros, outcome, detail)"
    " SELECT :run_id, kind, call_id, organization_id, amount_micros, outcome, detail"
    " FROM findings WHERE run_id = :plan_id AND kind NOT IN ('alert', 'report') ORDER BY id RETURNING"
    " kind, call_id, organization_id, amount_micros, outcome, detail"
)
# Rows that this transaction wrote bear the time of its beginning; savepoints have other numbers than it has.
TRANSFERS = (
    "SELECT idempotency_key, kind, name AS organization, transfers.currency,"
    " CASE WHEN from_account = organization_id THEN -amount_micros ELSE amount_micros END AS amount_micros"
    " FROM transfers JOIN organizations ON organizations.id = organization_id"
    " WHERE booked_at = now() ORDER BY idempotency_key"
)


class UnknownPlan(PermanentError):
    """There is no such rehearsal, or it cannot be carried out."""


class PlanOutdated(PermanentError):
    """What would happen now is not what the rehearsal showed; nothing was booked."""


def read_plan(engine: Engine, plan_id: UUID) -> Order:
    """The order that carries out a rehearsal: the same window and organization, as of the same moment.

    Raises:
        UnknownPlan: it was no rehearsal, or has not ended well, or is carried out already.
    """
    with transaction(engine) as connection:
        run = _plan(connection, plan_id)
    return Order(
        window=Window(run["window_from"], run["window_to"], run["listed_from"]),
        as_of=run["as_of"],
        kind=run["kind"],
        organization=str(run["organization_id"]) if run["organization_id"] else None,
        applies_run_id=plan_id,
        plan_digest=run["plan_digest"],
        is_booked=run["applied_at"] is not None,
    )


def rehearse(
    engine: Engine,
    missing: Sequence[EndedCall],
    drifted: Sequence[EndedCall],
    lost: Sequence[EndedCall],
    run_id: UUID,
) -> Repair:
    """Do it all and take it back: what would happen."""
    with transaction(engine) as connection:
        repair = _repair(connection, missing, drifted, lost, run_id)
        connection.rollback()
    return repair


def apply_plan(
    engine: Engine,
    missing: Sequence[EndedCall],
    drifted: Sequence[EndedCall],
    lost: Sequence[EndedCall],
    run_id: UUID,
    plan_id: UUID,
) -> Repair:
    """Do it all, if it comes to exactly what the rehearsal showed. Again by the same run, it is the same answer.

    Raises:
        PlanOutdated: it does not, since the provider's list or the books have moved; nothing was booked.
        UnknownPlan: another run has booked it meanwhile.
    """
    with transaction(engine) as connection:
        plan = _plan(connection, plan_id)
        if plan["applied_by_run_id"] == run_id:  # the transaction went through, and only its answer got lost
            return _as_booked(connection, plan, lost)
        if plan["applied_at"] is not None:
            raise UnknownPlan(
                f"run {plan['applied_by_run_id']} has booked plan {plan_id} meanwhile; nothing was booked twice. "
                f"Should it not end, finish it with: calltally reconcile --apply {plan_id}"
            )
        repair = _repair(connection, missing, drifted, lost, run_id)
        if repair.digest != plan["plan_digest"]:
            connection.rollback()
            raise PlanOutdated(
                "the plan is outdated: Vapi's list or the books have moved since the rehearsal "
                f"(plan {plan['plan_digest']}, now {repair.digest} with {len(repair.transfers)} transfers). "
                "Nothing was booked. Rehearse again with --dry-run, and apply that plan"
            )
        value(connection, MARK, run_id=run_id, plan_id=plan_id)
    return repair


def finish_plan(engine: Engine, run_id: UUID, plan_id: UUID, order: Order, run_url: str | None) -> Night:
    """Finish a run for a plan that is booked already: its figures and findings are those of the rehearsal.

    Raises:
        UnknownPlan: another run has finished it meanwhile, or is about to.
    """
    customers = load_customers(engine)
    with transaction(engine) as connection:
        plan = _plan(connection, plan_id)
        if plan["booking_state"] == "running":  # of a process that lives: this run's beginning has failed the others
            raise UnknownPlan(f"run {plan['applied_by_run_id']} is carrying out plan {plan_id}: let it end")
        value(connection, COPY_FIGURES, run_id=run_id)
        found = [Finding(**row) for row in rows(connection, COPY_FINDINGS, run_id=run_id, plan_id=plan_id)]
        booked = _as_booked(connection, plan, [])
    lost = {finding.call_id for finding in found if finding.kind in {"missing", "unattributed"}}
    return Night(
        run_id=run_id,
        kind=order.kind,
        window=order.window,
        as_of=order.as_of,
        dry_run=False,
        organization=order.organization,
        organization_id=order.organization_id,
        counts=plan["counts"],
        reliability=Reliability(plan["ended_by_webhook"], plan["ended_calls"]),
        by_organization=msgspec.convert(plan["groups"].get("organizations", []), list[GroupReliability]),
        by_assistant=msgspec.convert(plan["groups"].get("assistants", []), list[GroupReliability]),
        money=msgspec.convert(plan["money"], list[NightMoney]),
        recovered=Rows(call for call in booked.recorded if call.call_id in lost and call.outcome in CHARGED),
        lost_ids=Rows(finding.call_id for finding in found if finding.call_id and finding.call_id in lost),
        completeness=msgspec.convert(plan["completeness"], list[Completeness]),
        organizations={number: customer.name for number, customer in customers.items()},
        currencies={number: customer.currency for number, customer in customers.items()},
        cause=plan["cause"],
        run_url=run_url,
        report_url=plan["report_path"],
        findings=Rows(found),
    )


def _plan(connection: Connection, plan_id: UUID) -> dict[str, Any]:
    """Its row, locked: one run at a time carries it out."""
    found = rows(connection, PLAN, id=plan_id)
    if not found or not found[0]["dry_run"] or found[0]["plan_digest"] is None:
        raise UnknownPlan(
            f"{plan_id} is no rehearsal that has ended. Make one with: calltally reconcile --dry-run; it names it"
        )
    if found[0]["done_by"] is not None:
        raise UnknownPlan(f"plan {plan_id} was carried out by run {found[0]['done_by']}; there is nothing left to do")
    return found[0]


def _as_booked(connection: Connection, plan: dict[str, Any], lost: Sequence[EndedCall]) -> Repair:
    """What the rehearsal showed, which is what was booked."""
    shown = plan["plan"]
    return Repair(
        Rows(msgspec.convert(shown["calls"], list[Recovered])),
        Rows(msgspec.convert(shown["corrections"], list[Corrected])),
        worth(connection, lost),
        Rows(shown["transfers"]),
    )


def _repair(
    connection: Connection,
    missing: Sequence[EndedCall],
    drifted: Sequence[EndedCall],
    lost: Sequence[EndedCall],
    run_id: UUID,
) -> Repair:
    changed = [call.id for call in drifted]
    value(
        connection, "SELECT lock_plan(CAST(:missing AS jsonb), :changed)", missing=as_json(missing), changed=changed
    )
    recorded = [
        call
        for start in range(0, len(missing), BATCH)
        for call in record(connection, missing[start : start + BATCH], run_id)
    ]
    corrected = [
        call
        for start in range(0, len(drifted), BATCH)
        for call in correct(connection, drifted[start : start + BATCH], run_id)
    ]
    valued = worth(connection, lost)
    return Repair(Rows(recorded), Rows(corrected), valued, Rows(rows(connection, TRANSFERS)))
