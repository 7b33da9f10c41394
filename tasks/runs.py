"""Tells Prefect what a run is about."""

import logging
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from httpx import HTTPError
from prefect import get_client, tags
from prefect.runtime import flow_run

log = logging.getLogger("billing.runs")


def scheduled_start() -> datetime:
    """When this run was meant to begin, so that a late or repeated run covers the same window; else now.

    A plain datetime: the one that Prefect gives cannot be divided into minutes.
    """
    scheduled = flow_run.scheduled_start_time
    return datetime.fromisoformat(scheduled.isoformat()).astimezone(UTC) if scheduled else datetime.now(UTC)


def tagged_as_this_run() -> AbstractContextManager[object]:
    """Give runs that begin within the block the tags of this one, but for Prefect's own of who has started it."""
    return tags(*(tag for tag in flow_run.tags or () if tag != "auto-scheduled"))


async def name_this_run(name: str) -> None:
    """Give the current flow run a name that says what it does; a run that keeps its old one is no worse."""
    if flow_run.id is None or flow_run.name == name:
        return
    try:
        async with get_client() as client:
            await client.update_flow_run(flow_run.id, name=name)
    except HTTPError as error:
        log.warning("run.not_named error=%s", type(error).__name__)


async def name_at_first(name: str) -> None:
    """The same for a run that still has the two words which Prefect drew for it; whoever starts one may name it."""
    if flow_run.name and " " not in flow_run.name:
        await name_this_run(name)
