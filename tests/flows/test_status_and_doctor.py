"""`calltally status` and `doctor` beside a real Prefect server."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from typer.testing import CliRunner

from billing.settings import get_settings
from calltally.cli import app
from calltally.stack.automation_names import TELLING_SLACK
from calltally.stack.automations import install_automations
from calltally.stack.deployments import install_deployments

from .stage import Stage, in_loop


def said(*arguments: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)


def problems_of_prefect(verdict: str = "problem") -> dict[str, str]:
    """What the doctor finds wrong, and how to mend it."""
    findings = said("doctor")["findings"]
    return {row["what"]: row["fix"] for row in findings if row["area"] == "prefect" and row["verdict"] == verdict}


async def pause(deployment_id: UUID, *, active: bool) -> str:
    """Switch the schedule of a deployment, as people do in the UI; its id."""
    async with get_client() as client:
        [schedule] = await client.read_deployment_schedules(deployment_id)
        await client.update_deployment_schedule(deployment_id, schedule.id, active=active)
        return str(schedule.id)


@pytest.fixture
def shell(stage: Stage, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, UUID]]:
    """A terminal that knows the server, and its deployments' ids."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    get_settings.cache_clear()
    yield in_loop(install_deployments())
    get_settings.cache_clear()


def test_status_sees_prefect(shell: dict[str, UUID], prefect_api: str) -> None:
    """It is up, and says when the next night is due once its scheduler has planned it."""
    services = {service["name"]: service for service in said("status")["services"]}

    assert (services["prefect"]["state"], services["prefect"]["detail"]) == ("up", prefect_api)


def test_doctor_sees_paused_nights_and_absent_workers(shell: dict[str, UUID]) -> None:
    """A paused schedule is a problem, with the command that resumes it; so is a pool without workers."""
    before = problems_of_prefect()
    schedule = in_loop(pause(shell["reconcile_calls"], active=False))
    paused = problems_of_prefect()
    in_loop(pause(shell["reconcile_calls"], active=True))

    trouble = "deployment reconcile_calls is paused: it does not run by itself"
    assert trouble not in before
    assert paused[trouble] == f"prefect deployment schedule resume reconcile_calls/reconcile_calls {schedule}"
    assert paused["work pool nights has no worker online: its runs wait"] == "run: calltally nights (or calltally up)"


async def automations(*, remove: bool = False, pause: bool = False) -> list[UUID]:
    """The ids of those that are there, after removing all of them or pausing the first one if asked so."""
    async with get_client() as client:
        known = await client.read_automations()
        for automation in known if remove else []:
            await client.delete_automation(automation.id)
        if pause:
            await client.pause_automation(known[0].id)
        return [automation.id for automation in known]


@pytest.mark.slow
def test_doctor_sees_automations_that_are_missing_or_paused(shell: dict[str, UUID]) -> None:
    """A server that refused them said so in a line of a log; the doctor says so until they are there."""
    in_loop(automations(remove=True))
    missing = problems_of_prefect()
    in_loop(install_automations(get_settings().slack_webhook_url))
    [first, *_] = in_loop(automations(pause=True))
    paused = problems_of_prefect("warning")
    still = problems_of_prefect()
    in_loop(automations(remove=True))

    assert [name for name in TELLING_SLACK if name not in " ".join(missing)] == []
    assert f"prefect automation resume --id {first}" in paused.values()
    assert not any("automation" in what for what in still)
