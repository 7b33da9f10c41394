"""Runs deployed async flows inside this process: no subprocess, no import, one client for all of them."""

import os
import socket
from collections.abc import Coroutine, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import anyio.abc
import httpx
from prefect import Flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import AsyncClientContext
from prefect.flow_engine import run_flow_async
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Pending
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from billing.metrics import FLOW_RUNS

T = TypeVar("T")


TERMINAL: Final = "terminal"
"""The tag of runs that somebody has started in a terminal, and that end with it."""


class DeploymentGoneError(LookupError):
    """The Prefect server doesn't know this deployment, as after a reset of its database: install it again."""


class WarmWorkerResult(BaseWorkerResult):
    """Always 0: how the flow went is the flow run's state, which the flow engine reports itself."""


class WarmWorker(BaseWorker[BaseJobConfiguration, BaseVariables, WarmWorkerResult]):
    """Takes the scheduled runs of a work pool of type `calltally` and runs them in this event loop.

    Start it with `await WarmWorker("webhooks").start()`, which returns only by an exception: cancellation, or
    after minutes without the Prefect server; so start it in a loop.
    """

    type = "calltally"
    _description = "Runs async flows inside the calltally worker, without a process per run."

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,  # noqa: ARG002 - there is no job to configure
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> WarmWorkerResult:
        """Run the flow of `flow_run` and return when it has ended, however it has ended."""
        if task_status is not None:
            task_status.started(os.getpid())
        if flow_run.deployment_id is None:
            raise ValueError(f"flow run {flow_run.id} belongs to no deployment: its code can't be found")
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        if deployment.entrypoint is None:
            raise ValueError(f"deployment {deployment.name} has no entrypoint: its code can't be found")
        flow = _load(deployment.entrypoint)
        state = await run_flow_async(flow, flow_run=flow_run, return_type="state")
        FLOW_RUNS.labels(flow.name, state.type.value.lower() if state else "unknown").inc()
        return WarmWorkerResult(status_code=0, identifier=f"{socket.gethostname()}:{os.getpid()}")


async def run_deployed(
    flow: Flow[..., Coroutine[Any, Any, T]],
    deployment_id: UUID,
    parameters: Mapping[str, Any],
    name: str,
    *,
    tags: Sequence[str] = (),
) -> T:
    """Run `flow` here and now, as a run of its deployment called `name`; what the flow returns.

    The run begins as Pending, which no worker takes up. Hold one `AsyncClientContext` open around many runs.

    Raises what the flow raises; DeploymentGoneError; httpx.HTTPError or RuntimeError while the Prefect
    server can't be reached.
    """
    async with AsyncClientContext.get_or_create() as context:
        try:
            flow_run = await context.client.create_flow_run_from_deployment(
                deployment_id, parameters=dict(parameters), state=Pending(), name=name, tags=tags
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                raise DeploymentGoneError(deployment_id) from error
            raise
        ended = "failed"
        try:
            result = await run_flow_async(flow, flow_run=flow_run, parameters=dict(parameters))
            ended = "completed"
        finally:
            FLOW_RUNS.labels(flow.name, ended).inc()
        return cast("T", result)


@cache
def _load(entrypoint: str) -> Flow[..., Any]:
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
