"""What the Prefect server does on its own: it marks runs that died, and tells Slack what no worker could tell.

Prefect's flow engine sends a heartbeat for every run, also for those inside our worker; the server misses them when
the process is killed, the machine is lost or the network is cut. The books need none of this: events come back by
their lease, and a night can be run again. It keeps the runs that people see from being Running for ever, and from
holding the place of the next night. And since `monitor_billing` runs inside a worker, a worker that is not there can
tell nobody: the server notices that the watch has stopped, or that the night has not begun.
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
from prefect.client.schemas.objects import StateType
from prefect.context import AsyncClientContext
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from calltally.stack import automation_names as names

log = logging.getLogger("billing.automations")

MISSED: Final = 3
"""Heartbeats in a row; a run that missed so many is gone, and not only slow or cut off for a moment."""
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


def lost_runs(unresponsive: timedelta) -> AutomationCore:
    """Mark a run as crashed that was running and shows no sign of life any more."""
    # From its first moment on, so that a run which dies before its first heartbeat is found as well.
    begun = {"prefect.flow-run.Running", "prefect.flow-run.Retrying", "prefect.flow-run.heartbeat"}
    message = f"No sign of life for {unresponsive.total_seconds():.0f} s: its process is gone."
    return _crashing(names.LOST, begun, unresponsive, message)


def unstarted_runs(patience: timedelta) -> AutomationCore:
    """Mark a run as crashed that a worker has taken, and that never began; it would hold the place of the next."""
    taken = {f"prefect.flow-run.{name}" for name in ("Pending", "Submitting", "InfrastructurePending")}
    message = f"Taken by a worker, and not begun within {patience.total_seconds():.0f} s: its process is gone."
    return _crashing(names.UNSTARTED, taken, patience, message)


def _crashing(name: str, after: set[str], within: timedelta, message: str) -> AutomationCore:
    return AutomationCore(
        name=name,
        description="Marks a run as Crashed that has shown no sign of life and come to no end.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=RUN,
            match_related=_tagged("calltally"),
            for_each={"prefect.resource.id"},
            after=after,
            expect={"prefect.flow-run.*"},
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


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
            f"word. Events come back by themselves; a night has to be run again.{PAGE}",
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

    Slack is told only if there is an address, which Prefect keeps encrypted. A server that refuses automations costs
    us them and nothing else; `calltally doctor` then finds that they are missing.

    Raises httpx.HTTPError or RuntimeError while the Prefect server can't be reached.
    """
    async with AsyncClientContext.get_or_create() as context:
        try:
            lost = patience.lost or unresponsive_after()
            wanted = [*([lost_runs(lost)] if lost else []), unstarted_runs(patience.unstarted)]
            if slack_url is not None:
                wanted += slack_messages(await _keep_address(slack_url), patience)
            for automation in wanted:
                await _ensure(context.client, automation)
            for name in names.RETIRED:
                for retired in await context.client.read_automations_by_name(name):
                    await context.client.delete_automation(retired.id)
        except (HTTPStatusError, PrefectException, ValueError) as error:
            log.warning("automations.refused error=%s: runs that die stay Running", type(error).__name__)


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
