"""Starts a deployment through Prefect's HTTP API, for processes that have no business importing Prefect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from billing.errors import ProviderUnavailable

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A flow run that Prefect will start as soon as a worker takes it."""

    id: UUID
    url: str
    """In Prefect's UI."""


async def start_deployment(
    api_url: str, name: str, parameters: Mapping[str, Any], ui_url: str | None = None
) -> StartedRun:
    """Ask for a flow run now; `name` is that of flow and deployment alike, `parameters` are JSON.

    `ui_url` is where people open Prefect's pages; None: where the API is.

    Raises:
        ProviderUnavailable: Prefect does not answer, or has no such deployment.
    """
    try:
        async with httpx.AsyncClient(base_url=api_url, timeout=TIMEOUT_SECONDS) as client:
            deployment = (await client.get(f"/deployments/name/{name}/{name}")).raise_for_status().json()
            created = await client.post(
                f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": dict(parameters)}
            )
            run_id = UUID(created.raise_for_status().json()["id"])
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise ProviderUnavailable(
            f"Prefect at {api_url} did not start {name} ({type(error).__name__}): is it up, with its deployments?"
        ) from error
    pages = (ui_url or api_url.removesuffix("/api")).rstrip("/")
    return StartedRun(run_id, f"{pages}/runs/flow-run/{run_id}")
