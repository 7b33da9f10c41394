"""Installs the deployments of `prefect.yaml` through Prefect's API: once, fast, and again if they are lost."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import yaml  # type: ignore[import-untyped]
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.context import AsyncClientContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, ConfigDict, TypeAdapter

from billing.prefect_access import other_version
from billing.settings import get_settings
from calltally.stack.automations import install_automations
from calltally.stack.warm_worker import WarmWorker

log = logging.getLogger("billing.deployments")

WORKERS: Final[dict[str, type[BaseWorker[Any, Any, Any]]]] = {"nights": ProcessWorker, "webhooks": WarmWorker}
"""Work pool → the worker that serves it; a pool that exists already keeps its own type."""

FIXED_JOB: Final[dict[str, Any]] = {
    "job_configuration": {"command": None},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
"""A run is what its worker makes of it: whoever starts one chooses parameters, no command and no environment."""

FILE_NAME: Final = "prefect.yaml"


class Schedule(BaseModel):
    """When a deployment runs by itself."""

    model_config = ConfigDict(extra="forbid")

    slug: str
    cron: str | None = None
    interval: timedelta | None = None
    timezone: str = "UTC"
    active: bool = True
    """False: it waits for somebody to switch it on in the UI."""
    parameters: dict[str, Any] = {}
    """What its runs are given that differs from the deployment's own."""

    def as_prefect(self, *, active: bool) -> DeploymentScheduleCreate:
        """The schedule in Prefect's words."""
        when = (
            CronSchedule(cron=self.cron, timezone=self.timezone)
            if self.interval is None
            else IntervalSchedule(interval=self.interval, timezone=self.timezone)
        )
        return DeploymentScheduleCreate(schedule=when, slug=self.slug, active=active, parameters=self.parameters)


class WorkPool(BaseModel):
    """Where a deployment runs."""

    model_config = ConfigDict(extra="forbid")

    name: str


class Deployment(BaseModel):
    """One deployment of `prefect.yaml`; a key that this reader doesn't know is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    entrypoint: str
    tags: list[str]
    schedules: list[Schedule] = []
    concurrency_limit: int | None = None
    work_pool: WorkPool
    pull: list[dict[str, Any]]
    enforce_parameter_schema: bool


def read_deployments() -> Sequence[Deployment]:
    """The deployments of `prefect.yaml`, which lies in the repository, or beside this file once installed."""
    here = Path(__file__).parent
    places = [here / FILE_NAME, here.parents[1] / FILE_NAME]
    file = next((place for place in places if place.exists()), None)
    if file is None:
        raise FileNotFoundError(f"{FILE_NAME} isn't in {' or '.join(str(place.parent) for place in places)}")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return TypeAdapter(list[Deployment]).validate_python(content["deployments"])


async def install_deployments() -> dict[str, UUID]:
    """Make the work pools and deployments that are absent or have changed; the ids by deployment name.

    A schedule that somebody paused or switched on stays so, also when a new release changes its deployment.
    Raises httpx.HTTPError or RuntimeError while the Prefect server can't be reached.
    """
    deployments = read_deployments()
    async with AsyncClientContext.get_or_create() as context:
        await _warn_of_other_version(context.client)
        for pool in sorted({deployment.work_pool.name for deployment in deployments}):
            await _ensure_work_pool(context.client, pool)
        return {deployment.name: await _ensure(context.client, deployment) for deployment in deployments}


async def _ensure_work_pool(client: PrefectClient, name: str) -> None:
    """One of another type than ours, as for nights in pods, has a template of its own."""
    kind = WORKERS[name].type
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        with suppress(ObjectAlreadyExists):  # another process was faster
            await client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=FIXED_JOB))
        return
    if pool.type == kind and pool.base_job_template != FIXED_JOB:
        await client.update_work_pool(name, WorkPoolUpdate(base_job_template=FIXED_JOB))


async def _ensure(client: PrefectClient, deployment: Deployment) -> UUID:
    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment.entrypoint, use_placeholder_flow=False)
    schema = _without_null_choices(parameter_schema(flow).model_dump(exclude_unset=True))
    version = hashlib.sha256(f"{deployment.model_dump_json()}{schema}".encode()).hexdigest()[:12]
    try:
        existing = await client.read_deployment_by_name(f"{flow.name}/{deployment.name}")
    except ObjectNotFound:
        existing = None
    if existing is not None and existing.version == version:
        return existing.id
    chosen = {schedule.slug: schedule.active for schedule in existing.schedules} if existing else {}
    return await client.create_deployment(
        flow_id=await client.create_flow(flow),
        name=deployment.name,
        version=version,
        description=deployment.description,
        entrypoint=deployment.entrypoint,
        tags=deployment.tags,
        paused=existing.paused if existing else False,
        schedules=[
            schedule.as_prefect(active=chosen.get(schedule.slug, schedule.active))
            for schedule in deployment.schedules
        ],
        concurrency_limit=deployment.concurrency_limit,
        work_pool_name=deployment.work_pool.name,
        pull_steps=deployment.pull,
        enforce_parameter_schema=deployment.enforce_parameter_schema,
        parameter_openapi_schema=schema,
    )


def _without_null_choices(schema: dict[str, Any]) -> dict[str, Any]:
    """Make `X or null` plain X: the UI then shows an input with its help, instead of a choice of types.

    A default of null goes too: the form would send it, and Prefect refuses it as no X. Left alone, or emptied, such
    a field is absent or null, which Prefect allows where nothing else is the default.
    """
    for parameter in schema["properties"].values():
        kinds = [kind for kind in parameter.pop("anyOf", []) if kind != {"type": "null"}]
        parameter.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})
        if parameter.get("default", ...) is None:
            del parameter["default"]
    return schema


async def _warn_of_other_version(client: PrefectClient) -> None:
    """Say so if the server is of another version than we are: the two may misunderstand each other."""
    if other := other_version(await client.api_version()):
        log.warning("Prefect: %s; %s", *other)


async def main() -> None:
    """Install them, and the automations, as soon as the Prefect server answers; the caller sets the time limit."""
    async with get_client() as client:
        while await client.api_healthcheck() is not None:  # noqa: ASYNC110 - nobody here could set an event
            await asyncio.sleep(0.2)
    await install_deployments()
    await install_automations(get_settings().slack_webhook_url)


if __name__ == "__main__":
    asyncio.run(main())
