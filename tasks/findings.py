"""Finishes a night in the books: its findings and figures."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from billing import runs
from billing.figures import Night, NightMoney, Rows
from billing.night import Comparison, corrected_earlier, findings, money, recovered_calls, recovered_earlier
from billing.process import get_engine
from billing.repair import Repair
from billing.runs import Order
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient


@task(
    task_run_name="store the findings",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def store_findings(run_id: UUID, order: Order, comparison: Comparison, repair: Repair) -> Night:
    """Finish the run in the books, with its figures and findings."""
    page = url_for("flow-run", obj_id=flow_run.id) if flow_run.id else None
    return await asyncio.to_thread(_store, run_id, order, comparison, repair, page)


def _store(run_id: UUID, order: Order, comparison: Comparison, repair: Repair, run_url: str | None) -> Night:
    engine = get_engine()
    customers = runs.load_customers(engine)
    # A rehearsal books nothing, and so has nothing to say of what others booked.
    earlier = [] if order.dry_run else runs.take_over(engine, run_id)
    recovered = Rows([*recovered_calls(comparison, repair.recorded), *recovered_earlier(earlier)])
    currencies = {number: customer.currency for number, customer in customers.items()}
    night = Night(
        run_id=run_id,
        kind=order.kind,
        window=order.window,
        as_of=order.as_of,
        dry_run=order.dry_run,
        organization=order.organization,
        organization_id=order.organization_id,
        counts=comparison.counts,
        reliability=comparison.reliability,
        by_organization=comparison.by_organization,
        by_assistant=comparison.by_assistant,
        money=money(
            order.window,
            recovered,
            [*repair.corrected, *corrected_earlier(earlier)],
            repair.lost,
            [call.id for call in comparison.lost],
            currencies,
        ),
        recovered=recovered,
        lost_ids=Rows(call.id for call in comparison.lost),
        completeness=comparison.completeness,
        organizations={number: customer.name for number, customer in customers.items()},
        currencies=currencies,
        cause=comparison.cause,
        run_url=run_url,
        plan_digest=repair.digest if order.dry_run else None,
        findings=Rows(findings(comparison, repair.recorded, repair.corrected, earlier)),
    )
    runs.finish_run(engine, run_id, night.findings, _figures(night, comparison, repair))
    return night


def _figures(night: Night, comparison: Comparison, repair: Repair) -> dict[str, object]:
    """The columns of `reconciliation_runs`; sums over currencies stand in `money` apart."""
    low, high = night.reliability.interval or (None, None)
    sums = _sums(night.money)
    counts = comparison.counts
    known_only = counts["phantom"] + counts["beyond_retention"]
    return {
        "provider_calls": len(comparison.differences) - known_only,
        "known_calls": int(comparison.differences["by_webhook"].notna().sum()),
        "counts": counts,
        "ended_calls": night.reliability.ended,
        "ended_by_webhook": night.reliability.by_webhook,
        "reliability_ratio": night.reliability.ratio,
        "reliability_low": low,
        "reliability_high": high,
        "recovered_calls": len(night.recovered),
        "recovered_micros": sums["recovered_micros"],
        "outstanding_micros": sums["outstanding_micros"],
        "money": night.money,
        "groups": {"organizations": night.by_organization, "assistants": night.by_assistant},
        "completeness": night.completeness,
        "cause": night.cause,
        "plan": repair.plan if night.dry_run else None,
        "plan_digest": night.plan_digest,
    }


def _sums(amounts: Sequence[NightMoney]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for amount in amounts:
        sums["recovered_micros"] += amount.recovered_micros
        sums["outstanding_micros"] += amount.outstanding_micros
    return sums


@task(
    task_run_name="note where the report is",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def note_report(run_id: UUID, url: str) -> None:
    """Keep the address of the run's files in the books."""
    await asyncio.to_thread(runs.note_report, get_engine(), run_id, url)
