"""Makes a night's result visible: as files for people and notebooks, and in Prefect's UI."""

import asyncio
import base64
from collections.abc import Sequence

import pandas as pd
from prefect import task
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from billing import report
from billing.charts import reliability_chart, svg
from billing.figures import Night
from billing.night_report import MAX_ROWS, REHEARSAL, findings_rows, summary_markdown
from billing.process import get_engine
from billing.report import PAGE
from billing.report_history import DayReliability, load_history
from billing.settings import get_settings
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient


@task(
    task_run_name="read the last 30 days",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def read_history() -> list[DayReliability]:
    """How reliable the webhooks were, day by day."""
    return await asyncio.to_thread(load_history, get_engine())


@task(
    task_run_name="write the report",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def write_report(differences: pd.DataFrame, night: Night, history: Sequence[DayReliability]) -> str:
    """Write the files of the run; the address of their folder."""
    return await asyncio.to_thread(report.write_report, differences, night, history)


@task(task_run_name="draw the chart", cache_policy=NO_CACHE)
async def draw_chart(history: Sequence[DayReliability]) -> str:
    """The last 30 days as SVG."""
    threshold = get_settings().reliability_threshold
    return await asyncio.to_thread(lambda: svg(reliability_chart(history, threshold)))


@task(task_run_name="show the result", cache_policy=NO_CACHE)
async def publish_artifacts(night: Night, chart: str, report_url: str | None) -> None:
    """Summary, chart, findings and the way to the report, in Prefect's UI; `chart` is SVG.

    Pictures are data URIs in Markdown: Prefect's own image artifacts print the whole address below the picture.
    """
    picture = f"data:image/svg+xml;base64,{base64.b64encode(chart.encode()).decode()}"
    did = REHEARSAL if night.dry_run else "What the night found and did."
    shown = min(len(night.findings), MAX_ROWS)
    await acreate_markdown_artifact(summary_markdown(night, picture), key="reconciliation-summary", description=did)
    await acreate_markdown_artifact(
        f"![Webhook reliability over 30 days]({picture})",
        key="reliability-chart",
        description="Webhook reliability over 30 days.",
    )
    await acreate_table_artifact(
        findings_rows(night, MAX_ROWS),
        key="findings",
        description=f"{did} {shown:,} of {len(night.findings):,} findings; findings.csv has them all.",
    )
    if report_url:
        page = f"{report_url}/{PAGE}"
        await acreate_link_artifact(page, page, key="reconciliation-report", description=_how_to_open(page))


def _how_to_open(page: str) -> str:
    where = "findings.csv and calls.parquet lie beside it."
    if page.startswith("file:"):
        return f"The report lies on the worker's machine: copy its address into a browser there. {where}"
    return f"The report. {where}"
