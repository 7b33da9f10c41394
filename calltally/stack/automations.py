"""What the Prefect server does on its own: it tells Slack what no worker could tell.

`monitor_billing` runs inside a worker, so a worker that is not there can tell nobody: the server notices that the
watch has stopped, or that the night has not begun. What becomes of runs is decided by their states, in
run_watch.py; an automation goes by events alone, and would mark runs that ended while their last event was under way.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from httpx import HTTPStatusError
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient
from prefect.context import AsyncClientContext
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from calltally.stack import automation_names as names

log = logging.getLogger("billing.automations")

MISSED: Final = 4
"""Heartbeats in a row; a run that missed so many is gone, and not only slow or cut off for a moment."""
STARTED_AGAIN: Final = "StartedAgain"
"""The state in which a night that was lost is scheduled once more."""
BLOCK: Final = "calltally-slack"
RUN: Final = {"prefect.resource.id": "prefect.flow-run.*"}
COMPLETED: Final = "prefect.flow-run.Completed"
BY_ITSELF: Final = "auto-scheduled"
"""Prefect's own tag on what a schedule has started. Whoever starts a run by hand sees how it ends."""
PAGE: Final = "\n{{ flow_run|ui_url }}"
ADVICE: Final = (
    "{% if deployment %}: {{ deployment.description.split('**When it fails:**')[1] | replace('\n', ' ') | trim }}"
    "{% endif %}"
)
"""What the deployment says of itself. Not the state's message: that of a defect may quote what it was about."""
ABSENT: Final = (
    "A worker is gone or hangs, or Prefect does not reach it. Webhooks are kept, and not applied; no other message "
    "leaves until it is back. See `calltally status`, and docs/runbook.md, section `worker_gone`."
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is absent may stay so, and how often Slack hears of the same."""

    lost: timedelta | None = None
    """A run without any sign of life; None: as `unresponsive_after` says."""
    unstarted: timedelta = timedelta(minutes=10)
    """A run that a worker has taken and not begun: a process takes seconds, an image minutes to come."""
    unwatched: timedelta = timedelta(minutes=45)
    """The watch looks every 15 minutes; two looks may fail for reasons that pass."""
    forgotten: timedelta = timedelta(hours=24)
    """The message that nobody watches comes once, and then once a day."""
    late_night: timedelta = timedelta(hours=1)
    """Nights are due at 03:00 UTC and take minutes."""
    failed: timedelta = timedelta(minutes=15)
    """Before a night that failed by itself is started again: what it asks may be away for a while."""
    quiet: timedelta = timedelta(minutes=10)
    """One message for all the runs that a lost worker takes with it."""
    failing: timedelta = timedelta(hours=6)
    """One message for the runs of a flow that fail one after the other."""


PATIENCE: Final = Patience()


def unresponsive_after() -> timedelta | None:
    """How long a run may show no sign of life; None if `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` says that it shows none.

    Reckoned from the setting of this process, so that a slower heartbeat is not taken for death.
    """
    seconds = get_current_settings().flows.heartbeat_frequency
    return None if seconds is None else MISSED * timedelta(seconds=seconds)


def _tagged(*tags: str) -> list[dict[str, str]]:
    """Runs with all these tags; at least our own, since a Prefect server may have other users."""
    return [{"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"} for tag in tags]


def _of_flow(name: str) -> dict[str, str]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": name}


def slack_messages(block_document_id: UUID, patience: Patience = PATIENCE) -> Sequence[AutomationCore]:
    """Tell Slack of runs that failed or crashed, and of those that should have been and were not."""

    def telling(name: str, body: str, trigger: EventTrigger) -> AutomationCore:
        action = SendNotification(block_document_id=block_document_id, subject=name, body=body)
        return AutomationCore(name=name, description="Tells Slack.", trigger=trigger, actions=[action])

    minutes = patience.unwatched // timedelta(minutes=1)
    return [
        telling(
            names.FAILED,
            f"*{{{{ flow.name }}}}*: run {{{{ flow_run.name }}}} is {{{{ flow_run.state.name }}}}{ADVICE}{PAGE}",
            _failed(patience.failing),
        ),
        telling(
            names.CRASHED,
            "*{{ flow.name }}*: run {{ flow_run.name }} is {{ flow_run.state.name }}. Its process ended without a "
            f"word. Events come back by themselves, and a night is started again.{PAGE}",
            EventTrigger(
                posture=Posture.Reactive,
                match=RUN,
                match_related=_tagged("calltally"),
                expect={"prefect.flow-run.Crashed"},
                threshold=1,
                within=patience.quiet,
            ),
        ),
        telling(
            names.STARTED_AGAIN,
            "*{{ flow.name }}*: it ended otherwise than planned and is started again by itself, at most three times: "
            f"{{{{ flow_run.name }}}}. See docs/runbook.md, section `missing_night`.{PAGE}",
            EventTrigger(
                posture=Posture.Reactive,
                match=RUN,
                match_related=_tagged("calltally"),
                for_each={"prefect.resource.id"},
                expect={f"prefect.flow-run.{STARTED_AGAIN}"},
                threshold=1,
                within=timedelta(0),
            ),
        ),
        telling(
            names.UNWATCHED,
            f"*monitor_billing* has not looked at the books for {minutes} minutes. {ABSENT}",
            _unwatched(patience.unwatched, once=True),
        ),
        telling(
            names.UNWATCHED_FOR_A_DAY,
            f"*monitor_billing* has not looked at the books for a day. {ABSENT}",
            _unwatched(patience.forgotten, once=False),
        ),
        telling(
            names.LATE_NIGHT,
            "*reconcile_calls*: the night of 03:00 UTC was not taken up in time, and has not compared by 04:00 UTC. "
            "Usually no worker serves the pool `nights`: start `calltally nights`. See docs/runbook.md, section "
            f"`missing_night`.{PAGE}",
            _late_night(patience.late_night),
        ),
    ]


def _failed(within: timedelta) -> EventTrigger:
    """Runs that a schedule has started, at most one message per flow. The inbox tells of webhooks that fail."""
    return EventTrigger(
        posture=Posture.Reactive,
        match=RUN,
        match_related=[*_tagged("calltally", BY_ITSELF), _of_flow("!process_webhooks")],
        for_each={"related:flow:prefect.resource.id"},
        expect={"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
        threshold=1,
        within=within,
    )


def _unwatched(within: timedelta, *, once: bool) -> EventTrigger:
    """No look has ended well for so long: `once` after the last one; else again and again, even if none ever did.

    What is expected for each flow is only expected after its first event; what is expected of all of them, always.
    """
    return EventTrigger(
        posture=Posture.Proactive,
        match=RUN,
        match_related=[*_tagged("calltally", BY_ITSELF), _of_flow("monitor_billing")],
        for_each={"related:flow:prefect.resource.id"} if once else set(),
        after={COMPLETED} if once else set(),
        expect={COMPLETED},
        threshold=1,
        within=within,
    )


def _late_night(within: timedelta) -> EventTrigger:
    """Prefect calls a run Late that nobody has taken up 15 s after it was due."""
    return EventTrigger(
        posture=Posture.Proactive,
        match=RUN,
        match_related=[*_tagged("calltally", BY_ITSELF), _of_flow("reconcile_calls")],
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.Late"},
        expect={COMPLETED},
        threshold=1,
        within=within,
    )


async def install_automations(slack_url: SecretStr | None, patience: Patience = PATIENCE) -> None:
    """Make the automations that are absent or have changed; one that somebody paused stays paused.

    There are none unless Slack has an address, which Prefect keeps encrypted. A server that refuses automations costs
    us them and nothing else; `calltally doctor` then finds that they are missing.

    Raises httpx.HTTPError or RuntimeError while the Prefect server can't be reached.
    """
    async with AsyncClientContext.get_or_create() as context:
        try:
            if slack_url is not None:
                for automation in slack_messages(await _keep_address(slack_url), patience):
                    await _ensure(context.client, automation)
            for name in names.RETIRED:
                for retired in await context.client.read_automations_by_name(name):
                    await context.client.delete_automation(retired.id)
        except (HTTPStatusError, PrefectException, ValueError) as error:
            log.warning("automations.refused error=%s: Slack is not told of runs that fail", type(error).__name__)


async def _keep_address(slack_url: SecretStr) -> UUID:
    block = CustomWebhookNotificationBlock(
        name="calltally",
        url="{{address}}",
        json_data={"text": "{{body}}"},
        secrets=SecretDict({"address": slack_url.get_secret_value()}),
    )
    return await block.asave(BLOCK, overwrite=True)


async def _ensure(client: PrefectClient, automation: AutomationCore) -> None:
    automation.description = f"{automation.description} ({_version(automation)})"
    known = await client.read_automations_by_name(automation.name)
    if not known:
        await client.create_automation(automation)
    elif known[0].description != automation.description:
        automation.enabled = known[0].enabled
        await client.update_automation(known[0].id, automation)
    for duplicate in known[1:]:  # of two that started at the same time
        await client.delete_automation(duplicate.id)


def _version(automation: AutomationCore) -> str:
    """The same in every process: an update lets Prefect forget what it has been waiting for."""

    def plain(content: object) -> object:
        return sorted(content) if isinstance(content, set) else str(content)

    content = json.dumps(automation.model_dump(exclude={"enabled"}), default=plain, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
