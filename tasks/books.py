"""The night's tasks on the books; each is one transaction, or one per batch."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run, task_run

from billing import runs
from billing.night import Comparison, compare
from billing.process import get_engine
from billing.reconcile import known_frame, provider_frame
from billing.runs import Recovered, Window
from billing.vapi import EndedCall, ListedCall
from billing.vapi_list import Row
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.night")


@task(task_run_name="begin the run", cache_policy=NO_CACHE)
async def begin_run(window: Window, organization: str | None, *, dry_run: bool) -> UUID:
    """Note that the run has begun; its id."""
    return await asyncio.to_thread(
        runs.start_run, get_engine(), window, organization=organization, dry_run=dry_run, flow_run_id=flow_run.id
    )


@asynccontextmanager
async def failure_noted(run_id: UUID) -> AsyncIterator[None]:
    """Note on the run why it could not compare; the error goes on to Prefect."""
    try:
        yield
    except Exception as error:
        await asyncio.to_thread(runs.fail_run, get_engine(), run_id, str(error) or type(error).__name__)
        raise


@task(
    task_run_name="compare the provider's list with the books",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def compare_calls(run_id: UUID, window: Window, listed: Sequence[Sequence[Row]]) -> Comparison:
    """Every difference between what the provider lists and what the books know."""
    return await asyncio.to_thread(_compare, run_id, window, [row for rows in listed for row in rows])


def _compare(run_id: UUID, window: Window, listed: list[Row]) -> Comparison:
    engine, as_of = get_engine(), datetime.now(UTC)
    calls = runs.calls_of_run(engine, run_id, [row for row in listed if isinstance(row, ListedCall)])
    provider = provider_frame(calls)
    ids = provider["call_id"].tolist()
    known = known_frame(runs.load_known_calls(engine, run_id, window, ids))
    comparison = compare(listed, provider, known, runs.load_reported(engine, ids), window, as_of)
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
async def record_missing(calls: Sequence[EndedCall], run_id: UUID, *, dry_run: bool) -> list[Recovered]:
    """Insert and charge what no webhook told us of, batch by batch; a second time changes nothing."""
    recovered: list[Recovered] = []
    for start in range(0, len(calls), runs.BATCH):
        batch = calls[start : start + runs.BATCH]
        recovered += await asyncio.to_thread(runs.record_missing, get_engine(), batch, run_id, dry_run=dry_run)
    log.info("calls.recovered count=%d dry_run=%s", len(recovered), dry_run)
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
async def correct_drift(calls: Sequence[EndedCall], *, dry_run: bool) -> dict[str, int | None]:
    """Book the worth of changed durations, in micros by call id."""
    return await asyncio.to_thread(runs.correct_drift, get_engine(), calls, dry_run=dry_run)
