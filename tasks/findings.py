"""Makes a night's result visible: in the database, as a file for notebooks, and in Prefect's UI."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from billing import runs
from billing.messages import Night, likely_cause, recovered_table, summary_markdown
from billing.night import Comparison, findings, missing_traits, of_lost_webhooks
from billing.process import get_engine
from billing.runs import Recovered, Window
from billing.settings import get_settings


@task(task_run_name="write the report", cache_policy=NO_CACHE)
async def write_report(run_id: UUID, comparison: Comparison) -> Path:
    """Every compared call as a row of a Parquet file below `CALLTALLY_HOME/reports/`, for notebooks."""
    path = get_settings().calltally_home.absolute() / "reports" / f"reconciliation-{run_id}.parquet"

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        comparison.differences.to_parquet(unfinished, index=False)
        unfinished.rename(path)

    await asyncio.to_thread(write)
    return path


@task(task_run_name="store the findings", cache_policy=NO_CACHE)
async def store_findings(
    run_id: UUID,
    window: Window,
    comparison: Comparison,
    recovered: Sequence[Recovered],
    corrected: dict[str, int | None],
    report: Path,
) -> Night:
    """Finish the run in the books, with its figures and findings."""
    engine = get_engine()
    night = Night(
        run_id=run_id,
        window=window,
        dry_run=await asyncio.to_thread(runs.is_dry_run, engine, run_id),
        counts=comparison.counts,
        ended=comparison.ended,
        by_webhook=comparison.by_webhook,
        recovered=of_lost_webhooks(comparison, recovered),
        corrected_micros=sum(difference or 0 for difference in corrected.values()),
        organizations=await asyncio.to_thread(runs.organization_names, engine),
        cause=likely_cause(missing_traits(comparison)),
        run_url=flow_run.ui_url,
    )
    figures = {
        "provider_calls": comparison.provider_calls,
        "known_calls": comparison.known_calls,
        "counts": comparison.counts,
        "ended_calls": night.ended,
        "ended_by_webhook": night.by_webhook,
        "reliability_ratio": night.ratio,
        "recovered_calls": len(night.recovered),
        "recovered_micros": night.charged_micros,
        "outstanding_micros": night.outstanding_micros,
        "report_path": str(report),
    }
    found = findings(comparison, recovered, corrected)
    await asyncio.to_thread(runs.finish_run, engine, run_id, found, figures)
    return night


@task(task_run_name="show the result", cache_policy=NO_CACHE)
async def publish_artifacts(night: Night) -> None:
    """Summary and table of recovered calls, in Prefect's UI."""
    await acreate_markdown_artifact(
        summary_markdown(night), key="reconciliation-summary", description="What the night found and did."
    )
    await acreate_table_artifact(
        recovered_table(night), key="recovered-calls", description="Calls that no webhook had told us of."
    )
