"""What a person sees of the deployments in Prefect's UI."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

from calltally.stack import deployments
from calltally.stack.deployments import Deployment, install_deployments, read_deployments

from .stage import in_loop

DATE: Final = {"type": "string", "format": "date-time"}
TEXT: Final = {"type": "string"}


def switch(default: bool) -> dict[str, Any]:
    """Yes or no."""
    return {"type": "boolean", "default": default}


def number(default: int, low: int, high: int) -> dict[str, Any]:
    """A whole number within bounds."""
    return {"type": "integer", "default": default, "minimum": low, "maximum": high}


def choice(default: str | None, *choices: str) -> dict[str, Any]:
    """One of these."""
    return {"type": "string", "enum": list(choices), **({"default": default} if default else {})}


FORMS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "reconcile_calls": {
        "window_from": DATE,
        "window_to": DATE,
        "dry_run": switch(False),
        "organization": TEXT,
        "plan": {"type": "string", "format": "uuid"},
        "look_back_hours": number(72, 0, 336),
        "kind": choice("night", "night", "recent", "backfill"),
    },
    "reconcile_recent_calls": {"hours": number(3, 1, 48)},
    "backfill_calls": {"window_from": DATE, "window_to": DATE, "again": switch(False)},
    "backfill_payments": {
        "window_from": DATE,
        "window_to": DATE,
        "dry_run": switch(False),
        "look_back_hours": number(168, 1, 720),
    },
    "process_webhooks": {"batch_limit": number(1000, 1, 10_000)},
    "monitor_billing": {"dry_run": switch(False)},
    "replay_events": {
        "ids": {"type": "array", "items": {"type": "integer"}},
        "state": choice("dead", "dead", "parked", "skipped", "done"),
        "provider": choice(None, "stripe", "vapi", "twilio"),
        "event_type": TEXT,
        "error": TEXT,
        "since": DATE,
        "until": DATE,
        "dry_run": switch(True),
    },
    "prune_events": {"body_days": number(30, 1, 3650), "row_days": number(400, 30, 3650)},
    "poll_messages": {
        "stale_hours": number(12, 1, 720),
        "limit": number(10_000, 1, 100_000),
        "list_days": number(3, 0, 400),
    },
}
"""The fields of each form, without their words."""

WORDS: Final = {"title", "description", "position"}


async def _installed(name: str) -> DeploymentResponse:
    ids = await install_deployments()
    async with get_client() as client:
        return await client.read_deployment(ids[name])


def installed(name: str) -> DeploymentResponse:
    """The deployment as the server has it."""
    return in_loop(_installed(name))


def scheduled(name: str) -> dict[str | None, tuple[object, bool]]:
    """What a deployment's schedules say, in UTC, and whether they are on."""

    def words(schedule: DeploymentSchedule) -> object:
        if isinstance(schedule.schedule, CronSchedule):
            assert schedule.schedule.timezone == "UTC"
            return schedule.schedule.cron
        return getattr(schedule.schedule, "interval", None)

    return {schedule.slug: (words(schedule), schedule.active) for schedule in installed(name).schedules}


@pytest.mark.parametrize("deployment", read_deployments(), ids=lambda deployment: str(deployment.name))
def test_deployment_explains_itself_and_its_form(prefect_api: str, deployment: Deployment) -> None:
    """What it does, when, what to do when it fails; fields with bounds, choices and dates, each with a help text."""
    known = installed(deployment.name)
    fields: dict[str, dict[str, Any]] = (known.parameter_openapi_schema or {})["properties"]

    assert known.description is not None
    assert ["**When:**" in known.description, "**When it fails:**" in known.description] == [True, True]
    assert sorted(known.tags) == sorted(deployment.tags)
    assert "calltally" in known.tags
    assert known.enforce_parameter_schema
    assert load_flow_from_entrypoint(deployment.entrypoint, use_placeholder_flow=False).timeout_seconds
    assert FORMS[deployment.name] == {
        name: {key: value for key, value in field.items() if key not in WORDS} for name, field in fields.items()
    }
    assert [name for name, field in fields.items() if len(field.get("description", "").split()) < 4] == []


@pytest.mark.parametrize("deployment", read_deployments(), ids=lambda deployment: str(deployment.name))
def test_form_that_is_left_alone_is_accepted(prefect_api: str, deployment: Deployment) -> None:
    """As Prefect's UI does it: the defaults go into the form, it asks whether that is valid, and starts the run."""
    known = installed(deployment.name)
    schema = known.parameter_openapi_schema or {}
    defaults = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    emptied = {**defaults, **{name: None for name in schema["properties"] if name not in defaults}}
    scheduled_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": scheduled_at}}

    with httpx.Client(base_url=prefect_api, timeout=30) as ui:
        left_alone, cleared = (
            ui.post("/ui/schemas/validate", json={"schema": schema, "values": form}).json()
            for form in (defaults, emptied)
        )
        started = ui.post(f"/deployments/{known.id}/create_flow_run", json={"parameters": defaults, "state": state})
        ui.delete(f"/flow_runs/{started.json().get('id')}")

    assert known.parameters == {}
    assert left_alone == {"valid": True, "errors": []}
    assert started.status_code == 201
    assert [error for error in cleared["errors"] if "enum" not in schema["properties"][error["property"]]] == []


def test_night_and_watch_run_by_themselves_and_the_hourly_pass_waits_to_be_switched_on(prefect_api: str) -> None:
    """The times that the documentation and the alarms reckon with."""
    assert scheduled("reconcile_calls") == {"night": ("0 3 * * *", True)}
    assert scheduled("monitor_billing") == {"quarter-hourly": ("*/15 * * * *", True)}
    assert scheduled("reconcile_recent_calls") == {"hourly": ("20 * * * *", False)}
    assert scheduled("backfill_calls") == {}


def test_deployments_installed_again_stay_the_same(prefect_api: str) -> None:
    """A restart touches nothing."""
    first = installed("reconcile_calls")
    second = installed("reconcile_calls")

    assert (second.id, second.updated) == (first.id, first.updated)


@pytest.mark.slow
def test_schedules_stay_as_somebody_set_them_when_a_release_changes_their_deployment(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night that was paused stays paused, and an hourly pass that was switched on stays on."""

    async def switch_schedule(name: str, *, active: bool) -> None:
        known = await _installed(name)
        async with get_client() as client:
            await client.update_deployment_schedule(known.id, known.schedules[0].id, active=active)

    before = {name: installed(name).version for name in ("reconcile_calls", "reconcile_recent_calls")}
    in_loop(switch_schedule("reconcile_calls", active=False))
    in_loop(switch_schedule("reconcile_recent_calls", active=True))
    try:
        changed = [each.model_copy(update={"description": f"{each.description} New."}) for each in read_deployments()]
        monkeypatch.setattr(deployments, "read_deployments", lambda: changed)

        assert scheduled("reconcile_calls") == {"night": ("0 3 * * *", False)}
        assert scheduled("reconcile_recent_calls") == {"hourly": ("20 * * * *", True)}
        assert [installed(name).version == version for name, version in before.items()] == [False, False]
    finally:
        in_loop(switch_schedule("reconcile_calls", active=True))
        in_loop(switch_schedule("reconcile_recent_calls", active=False))
