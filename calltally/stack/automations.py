"""What the Prefect server does about runs that die: it marks those whose process is gone, and tells Slack.

Prefect's flow engine sends a heartbeat for every run, also for those inside our worker; the server misses them when
the process is killed, the machine is lost or the network is cut. The books need none of this: events come back by
their lease, and a night can be run again. It keeps the runs that people see from being Running for ever, and from
holding the place of the next night.
"""

import hashlib
import logging
from collections.abc import Sequence
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

log = logging.getLogger("billing.automations")

MISSED: Final = 3
"""Heartbeats in a row; a run that missed so many is gone, and not only slow or cut off for a moment."""
QUIET: Final = timedelta(minutes=10)
"""One message for the runs that a lost worker takes with it."""
BLOCK: Final = "calltally-slack"
RUN: Final = {"prefect.resource.id": "prefect.flow-run.*"}
BODY: Final = (
    "*{{ flow.name }}*: run {{ flow_run.name }} is {{ flow_run.state.name }}. {advice}\n{{ flow_run|ui_url }}"
)
"""Without the state's message: that of an unexpected error may quote what it was about."""


def _of(tag: str) -> dict[str, str]:
    """Runs of our deployments: a Prefect server may have other users."""
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"}


def unresponsive_after() -> timedelta | None:
    """How long a run may show no sign of life; None if `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` says that it shows none.

    Reckoned from the setting of this process, so that a slower heartbeat is not taken for death.
    """
    seconds = get_current_settings().flows.heartbeat_frequency
    return None if seconds is None else MISSED * timedelta(seconds=seconds)


def lost_runs(unresponsive: timedelta) -> AutomationCore:
    """Mark a run as crashed that was running and shows no sign of life any more."""
    return AutomationCore(
        name="calltally: runs whose process is gone",
        description="Marks a run as Crashed that has sent no heartbeat and come to no end.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=RUN,
            match_related=_of("calltally"),
            for_each={"prefect.resource.id"},
            # From its first moment on, so that a run which dies before its first heartbeat is found as well.
            after={"prefect.flow-run.Running", "prefect.flow-run.Retrying", "prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            threshold=1,
            within=unresponsive,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No sign of life for {unresponsive.total_seconds():.0f} s: its process is gone.",
            )
        ],
    )


def slack_messages(block_document_id: UUID) -> Sequence[AutomationCore]:
    """Tell Slack of nights that failed, and of runs that crashed."""
    return [
        _message(
            "calltally: a night failed",
            {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
            "night",
            "It could not compare, and nothing is half done: its log says why, and it can be run again.",
            block_document_id,
        ),
        _message(
            "calltally: a run crashed",
            {"prefect.flow-run.Crashed"},
            "calltally",
            "Its process ended without a word. Events come back by themselves; a night has to be run again.",
            block_document_id,
        ),
    ]


async def install_automations(slack_url: SecretStr | None, *, unresponsive: timedelta | None = None) -> None:
    """Make the automations that are absent or have changed; one that somebody paused stays paused.

    `unresponsive` is how long a run may show no sign of life; absent: as `unresponsive_after` says. Slack is told
    only if there is an address, which Prefect keeps encrypted. A server that refuses automations costs us them and
    nothing else.

    Raises httpx.HTTPError or RuntimeError while the Prefect server can't be reached.
    """
    async with AsyncClientContext.get_or_create() as context:
        try:
            patience = unresponsive or unresponsive_after()
            wanted = [lost_runs(patience)] if patience else []
            if slack_url is not None:
                wanted += slack_messages(await _keep_address(slack_url))
            for automation in wanted:
                await _ensure(context.client, automation)
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


def _message(name: str, events: set[str], tag: str, advice: str, block_document_id: UUID) -> AutomationCore:
    return AutomationCore(
        name=name,
        description="Tells Slack, at most once in ten minutes.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            match=RUN,
            match_related=_of(tag),
            expect=events,
            threshold=1,
            within=QUIET,
        ),
        actions=[
            SendNotification(block_document_id=block_document_id, subject=name, body=BODY.replace("{advice}", advice))
        ],
    )


async def _ensure(client: PrefectClient, automation: AutomationCore) -> None:
    version = hashlib.sha256(automation.model_dump_json(exclude={"enabled"}).encode()).hexdigest()[:12]
    automation.description = f"{automation.description} ({version})"
    known = await client.read_automations_by_name(automation.name)
    if not known:
        await client.create_automation(automation)
    elif known[0].description != automation.description:
        automation.enabled = known[0].enabled
        await client.update_automation(known[0].id, automation)
    for duplicate in known[1:]:  # of two that started at the same time
        await client.delete_automation(duplicate.id)
