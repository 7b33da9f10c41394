"""Makes a night's result visible: as files for people and notebooks, and in Prefect's UI."""

import asyncio
import base64
import logging
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pandas as pd
from prefect import task
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from billing import report, runs
from billing.charts import reliability_chart, svg
from billing.errors import BillingError
from billing.figures import Night
from billing.literal import in_markdown, in_markdown_row
from billing.night_report import MAX_ROWS, REHEARSAL, findings_rows, summary_markdown
from billing.process import get_engine
from billing.provider_pages import call_page, linked
from billing.report import PAGE
from billing.report_history import DayReliability, load_history
from billing.settings import get_settings
from tasks.findings import note_report
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.report")


@task(
    task_run_name="read the last 30 days",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def read_history(organization_id: UUID | None) -> list[DayReliability]:
    """How reliable the webhooks of one organization were, or of all, day by day."""
    return await asyncio.to_thread(load_history, get_engine(), organization_id)


@task(
    task_run_name="write the report",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def write_files(differences: pd.DataFrame, night: Night, history: Sequence[DayReliability]) -> str:
    """Write the files of the run; the address of their folder."""
    return await asyncio.to_thread(report.write_report, differences, night, history)


async def write_report(differences: pd.DataFrame, night: Night, history: Sequence[DayReliability]) -> Night:
    """Write the files of the run, and note on it where they are; the night that knows it.

    A place that takes no files is a finding: the books are right, and Prefect shows the night all the same.
    """
    try:
        url = await write_files(differences, night, history)
    except Exception as error:
        log.exception("report.failed run=%s", night.run_id)
        night = night.with_problem("report", in_words(error))
        await asyncio.to_thread(runs.note_finding, get_engine(), night.run_id, night.findings[-1])
        return night
    await note_report(night.run_id, url)
    return replace(night, report_url=url)


def in_words(error: Exception) -> str:
    """Ours say what to do; others may hold anything, so their class has to do."""
    return str(error) if isinstance(error, BillingError) else f"{type(error).__name__} while writing the report"


@task(task_run_name="draw the chart", cache_policy=NO_CACHE)
async def draw_chart(night: Night, history: Sequence[DayReliability]) -> str:
    """The last 30 days as SVG, of the organization that the night is about."""
    threshold = get_settings().reliability_threshold
    return await asyncio.to_thread(lambda: svg(reliability_chart(history, threshold, night.organization)))


@task(task_run_name="show the result", cache_policy=NO_CACHE)
async def publish_artifacts(night: Night, chart: str) -> None:
    """Summary, chart, findings and the way to the report, if there is one, in Prefect's UI; `chart` is SVG.

    Pictures are data URIs in Markdown: Prefect's own image artifacts print the whole address below the picture.
    """
    picture = f"data:image/svg+xml;base64,{base64.b64encode(chart.encode()).decode()}"
    did = REHEARSAL if night.dry_run else "What the night found and did."
    shown = min(len(night.findings), MAX_ROWS)
    more = "; findings.csv has them all" if night.report_url else ""
    await acreate_markdown_artifact(summary_markdown(night, picture), key="reconciliation-summary", description=did)
    of = f" of {in_markdown(night.organization)}" if night.organization else ""
    await acreate_markdown_artifact(
        f"![Webhook reliability over 30 days]({picture})",
        key="reliability-chart",
        description=f"Webhook reliability over 30 days{of}.",
    )
    settings = get_settings()
    table = [
        {**in_markdown_row(row), "call": linked(row["call"], call_page(row["call"], settings))}
        for row in findings_rows(night, MAX_ROWS)
    ]
    await acreate_table_artifact(
        table,
        key="findings",
        description=f"{did} {shown:,} of {len(night.findings):,} findings{more}.",
    )
    if night.report_url:
        page = f"{night.report_url}/{PAGE}"
        await acreate_link_artifact(page, page, key="reconciliation-report", description=_how_to_open(page))


def _how_to_open(page: str) -> str:
    where = "findings.csv and calls.parquet lie beside it."
    if page.startswith("file:"):
        return f"The report lies on the worker's machine: copy its address into a browser there. {where}"
    return f"The report. {where}"
