"""Where the heavy tasks of a night run: in its own process, or on a Dask cluster if a setting names one."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from prefect import Task
from prefect.context import FlowRunContext
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from billing.process import NotConfigured
from billing.settings import get_settings

R = TypeVar("R")

LOCAL = "local"
LOCAL_CLUSTER: Mapping[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
"""As many processes as the machine has cores."""


def task_runner() -> TaskRunner[Any]:
    """What `DASK_SCHEDULER` asks for.

    Raises:
        NotConfigured: Dask is not installed.
    """
    scheduler = get_settings().dask_scheduler
    if scheduler is None:
        return ThreadPoolTaskRunner(max_workers=1)  # nothing is submitted to it
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise NotConfigured(
            "DASK_SCHEDULER is set, but Dask is not installed: pip install 'calltally[dask]'"
        ) from error
    if scheduler == LOCAL:
        return DaskTaskRunner(cluster_kwargs=dict(LOCAL_CLUSTER))
    return DaskTaskRunner(address=scheduler)


async def processes_for(tasks: int) -> int:
    """In how many processes so many tasks of this run are executed at once."""
    context = FlowRunContext.get()
    if context is None or get_settings().dask_scheduler is None:
        return 1
    runner: Any = context.task_runner
    workers = await asyncio.to_thread(runner.client.nthreads)
    return max(1, min(len(workers), tasks))


async def on_all(task: Task[..., Coroutine[Any, Any, R]], each: Iterable[tuple[Any, ...]]) -> list[R]:
    """The results of the task for each of the arguments, all at once."""
    if get_settings().dask_scheduler is None:
        return await asyncio.gather(*(task(*arguments) for arguments in each))
    futures = [task.submit(*arguments) for arguments in each]
    return await asyncio.to_thread(lambda: [future.result() for future in futures])  # type: ignore[misc]
