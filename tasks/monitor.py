"""Watches the books; each task is one transaction or a few short ones, and can be repeated."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from billing import monitoring, summaries
from billing.alerts import Told
from billing.literal import in_markdown_row
from billing.process import get_engine
from billing.rules.registry import RULES
from billing.rules.rule import Condition
from billing.settings import get_settings
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.monitor")

BY_NAME = {rule.name: rule for rule in RULES}


@task(
    task_run_name="look at {name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def look(name: str, now: datetime) -> list[Condition]:
    """What the rule of that name finds."""
    return await asyncio.to_thread(monitoring.look, get_engine(), BY_NAME[name], get_settings(), now)


@task(task_run_name="note what was found", cache_policy=NO_CACHE)
async def note(conditions: Sequence[Condition]) -> None:
    """Open, keep or close incidents; their messages wait for a sender then."""
    await asyncio.to_thread(monitoring.note, get_engine(), conditions)
    log.info("rules.applied failing=%s", [condition.key for condition in conditions if condition.failing])


@task(task_run_name="write what is due", cache_policy=NO_CACHE)
async def enqueue_summaries(now: datetime) -> list[str]:
    """The weekly summary and the daily heartbeat, if it is time for them."""
    return await asyncio.to_thread(summaries.enqueue_due, get_engine(), get_settings(), now)


@task(task_run_name="show how billing is", cache_policy=NO_CACHE)
async def publish_health(conditions: Sequence[Condition], told: Sequence[Told]) -> list[dict[str, str]]:
    """The table of all rules and of what came of the messages, in Prefect's UI."""
    table = await asyncio.to_thread(monitoring.health_rows, get_engine(), conditions, told)
    failing = sum(row["state"] == monitoring.STATES[True] for row in table)
    described = f"{failing} of {len(table)} conditions fail." if failing else "All is well."
    await acreate_table_artifact([in_markdown_row(row) for row in table], key="billing-health", description=described)
    return table
