"""Starts a deployment through Prefect's HTTP API, for processes that have no business importing Prefect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from billing.errors import ProviderUnavailable
from billing.prefect_access import CREDENTIALS_FIX, REFUSED

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A flow run that Prefect will start as soon as a worker takes it."""

    id: UUID
    url: str
    """In Prefect's UI."""


async def start_deployment(
    api_url: str,
    name: str,
    parameters: Mapping[str, Any],
    *,
    ui_url: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> StartedRun:
    """Ask for a flow run now; `name` is that of flow and deployment alike, `parameters` are JSON.

    `ui_url` is where people open Prefect's pages; None: where the API is. `headers` prove who asks.

    Raises:
        ProviderUnavailable: Prefect does not answer, does not believe us, or has no such deployment.
    """
    try:
        async with httpx.AsyncClient(base_url=api_url, headers=headers, timeout=TIMEOUT_SECONDS) as client:
            deployment = (await client.get(f"/deployments/name/{name}/{name}")).raise_for_status().json()
            created = await client.post(
                f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": dict(parameters)}
            )
            run_id = UUID(created.raise_for_status().json()["id"])
    except httpx.HTTPStatusError as error:
        raise ProviderUnavailable(f"Prefect at {api_url} did not start {name}: {_why(error)}") from error
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise ProviderUnavailable(
            f"Prefect at {api_url} did not start {name} ({type(error).__name__}): is it up, with its deployments?"
        ) from error
    pages = (ui_url or api_url.removesuffix("/api")).rstrip("/")
    return StartedRun(run_id, f"{pages}/runs/flow-run/{run_id}")


def _why(error: httpx.HTTPStatusError) -> str:
    """With what mends it."""
    status = error.response.status_code
    if status in REFUSED:
        return f"it refuses our credentials ({status}); {CREDENTIALS_FIX}"
    if status == httpx.codes.NOT_FOUND:
        return "it has no such deployment (404); install them: calltally install"
    return f"it answers {status}; see its log"
