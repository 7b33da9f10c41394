"""What a person sees of the deployments in Prefect's UI."""

from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.responses import DeploymentResponse

from calltally.stack.deployments import Deployment, install_deployments, read_deployments

from .stage import in_loop


def installed(name: str) -> DeploymentResponse:
    """The deployment as the server has it."""

    async def read() -> DeploymentResponse:
        ids = await install_deployments()
        async with get_client() as client:
            return await client.read_deployment(ids[name])

    return in_loop(read())


@pytest.mark.parametrize("deployment", read_deployments(), ids=lambda deployment: str(deployment.name))
def test_deployment_explains_itself_and_its_form(prefect_api: str, deployment: Deployment) -> None:
    """It has a description, and each field of its form a title and a help text."""
    known = installed(deployment.name)
    fields: dict[str, dict[str, Any]] = (known.parameter_openapi_schema or {})["properties"]

    assert known.description
    assert known.enforce_parameter_schema
    assert fields
    assert [name for name, field in fields.items() if not field.get("title")] == []
    assert [name for name, field in fields.items() if not field.get("description")] == []


def test_deployments_installed_again_stay_the_same(prefect_api: str) -> None:
    """A schedule that somebody paused is not touched by a restart."""
    first = installed("reconcile_calls")
    second = installed("reconcile_calls")

    assert (second.id, second.updated) == (first.id, first.updated)
