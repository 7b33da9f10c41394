"""The night's tasks on the books; each is one transaction, or one per batch."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run, task_run

from billing import known_calls, plans, repair, runs
from billing.call_frames import concatenated, ids_missing
from billing.figures import Night, Recovered, Rows, Totals, Window
from billing.night import Comparison, ListTolerance, prove_complete
from billing.night_windows import Range
from billing.process import get_engine
from billing.reconcile import RETENTION_MARGIN, SETTLING, Tolerances, find_differences
from billing.reliability import unseen_calls
from billing.repair import Corrected, LostValue, Repair
from billing.runs import Order
from billing.settings import get_settings
from billing.vapi import EndedCall
from tasks.progress import progress_of
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.night")

T = TypeVar("T")
R = TypeVar("R")


@task(
    task_run_name="begin the run",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def begin_run(run_id: UUID, order: Order) -> Order:
    """Note that the run has begun; the order again, with the organization that it means, and what is to be listed."""
    kept_since = order.as_of - get_settings().vapi_retention
    return await asyncio.to_thread(runs.start_run, get_engine(), run_id, order, flow_run.id, kept_since)


@task(
    task_run_name="read plan {plan_id}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def read_plan(plan_id: UUID) -> Order:
    """What a rehearsal was about."""
    return await asyncio.to_thread(plans.read_plan, get_engine(), plan_id)


@task(
    task_run_name="was {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} compared?",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def is_compared(start: datetime, end: datetime) -> bool:
    """Whether a run has compared this window and ended well."""
    return await asyncio.to_thread(runs.is_compared, get_engine(), Window(start, end, start))


@asynccontextmanager
async def watched_over(run_id: UUID) -> AsyncIterator[None]:
    """Mark the run as alive, and note on it why it could not compare; the error goes on to Prefect."""
    alive = runs.marked_alive(get_engine(), run_id)
    await asyncio.to_thread(alive.__enter__)
    try:
        yield
    except asyncio.CancelledError:  # the flow's time limit, or a person: from here on nothing can be awaited
        runs.fail_run(get_engine(), run_id, "stopped before it had compared: it took too long, or was cancelled")
        raise
    except Exception as error:
        await asyncio.to_thread(runs.fail_run, get_engine(), run_id, str(error) or type(error).__name__)
        raise
    finally:
        await asyncio.to_thread(alive.__exit__, None, None, None)


@task(
    task_run_name="compare the provider's list with the books",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def compare_calls(
    order: Order,
    provider: pd.DataFrame,
    totals: Mapping[Range, Totals | None],
    listed_at: datetime,
) -> Comparison:
    """Every difference between what the provider lists and what the books know; `listed_at` is when it had listed."""
    return await asyncio.to_thread(_compare, order, provider, totals, listed_at)


def _compare(
    order: Order,
    provider: pd.DataFrame,
    totals: Mapping[Range, Totals | None],
    listed_at: datetime,
) -> Comparison:
    engine, settings = get_engine(), get_settings()
    completeness = prove_complete(
        provider, totals, ListTolerance(settings.completeness_tolerance, settings.completeness_tolerance_calls)
    )
    known = known_calls.load_known_calls(engine, order.window)
    elsewhere = ids_missing(provider["call_id"], known["call_id"])
    # A call whose report gave no time of creation was stored under another one.
    known = concatenated([known, known_calls.load_known_by_id(engine, elsewhere)])
    differences = find_differences(
        provider,
        known,
        known_calls.load_routes(engine),
        order.as_of,
        kept_since=listed_at - settings.vapi_retention + RETENTION_MARGIN,
        tolerances=Tolerances(settings.drift_tolerance_ms, settings.drift_tolerance_micros),
        organization_id=str(order.organization_id) if order.organization_id else None,
    )
    # What a night once counted, it counts the same way when it is run again, whatever arrives until then.
    unseen = unseen_calls(differences, order.as_of - SETTLING)
    if not order.dry_run:
        known_calls.keep_first_sights(engine, unseen)
    comparison = Comparison(
        differences,
        window=order.window,
        as_of=order.as_of,
        reported=known_calls.load_reported(engine, unseen),
        names={str(number): customer.name for number, customer in runs.load_customers(engine).items()},
        completeness=completeness,
        stops_billing=settings.completeness_stops_billing,
    )
    log.info("calls.compared %s", comparison.counts)
    return comparison


def _recording() -> str:
    return f"record {len(task_run.parameters['calls'])} missing calls"


@task(
    task_run_name=_recording,
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def record_missing(calls: Sequence[EndedCall], run_id: UUID) -> Rows[Recovered]:
    """Insert and charge what no webhook told us of, batch by batch; a second time changes nothing."""
    recovered = await _in_batches(run_id, calls, lambda batch: repair.record_calls(get_engine(), batch, run_id))
    log.info("calls.recovered count=%d", len(recovered))
    return recovered


def _correcting() -> str:
    return f"correct {len(task_run.parameters['calls'])} calls that the provider changed"


@task(
    task_run_name=_correcting,
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def correct_drift(calls: Sequence[EndedCall], run_id: UUID) -> Rows[Corrected]:
    """Book the worth of changed durations; a second time changes nothing, and tells what the first one booked."""
    return await _in_batches(run_id, calls, lambda batch: repair.correct_calls(get_engine(), batch, run_id))


@task(
    task_run_name="value the calls that no webhook told us of",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def value_lost_calls(calls: Sequence[EndedCall]) -> list[LostValue]:
    """What they are worth, by currency."""
    return await asyncio.to_thread(repair.value_calls, get_engine(), calls)


@task(
    task_run_name="rehearse the repair",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def rehearse_repair(comparison: Comparison, run_id: UUID) -> Repair:
    """Do the whole repair and take it back: what would happen."""
    return await asyncio.to_thread(
        plans.rehearse, get_engine(), comparison.missing, comparison.drifted, comparison.lost, run_id
    )


@task(
    task_run_name="carry out the plan",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def apply_plan(comparison: Comparison, run_id: UUID, plan_id: UUID) -> Repair:
    """Do the whole repair in one transaction, if it is the one that was shown; again, it is the same answer."""
    return await asyncio.to_thread(
        plans.apply_plan,
        get_engine(),
        comparison.missing,
        comparison.drifted,
        comparison.lost,
        run_id,
        plan_id,
    )


@task(task_run_name="finish a plan that is booked already", cache_policy=NO_CACHE)
async def finish_plan(run_id: UUID, plan_id: UUID, order: Order) -> Night:
    """Finish the run with what the rehearsal has stored: the process that booked it has died before it could."""
    return await asyncio.to_thread(plans.finish_plan, get_engine(), run_id, plan_id, order, flow_run.ui_url)


async def _in_batches(run_id: UUID, calls: Sequence[T], book: Callable[[Sequence[T]], list[R]]) -> Rows[R]:
    booked: list[R] = []
    progress = progress_of(run_id)
    for start in range(0, len(calls), repair.BATCH):
        booked += await asyncio.to_thread(book, calls[start : start + repair.BATCH])
        if progress is not None:
            progress.reached("booking", len(booked) / len(calls))
    return Rows(booked)
