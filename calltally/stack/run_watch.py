"""A worker's look at Prefect's runs: those whose process is gone become Crashed, and a lost night is started again.

It goes by the state that a run is in, not by events that should have come: what a restart of the server swallowed, or
a busy one has not yet read, decides nothing. The books need none of this: webhooks come back by their lease, and a
night changes nothing that is right. It keeps runs from being Running for ever, and in the way of the next.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import AsyncClientContext
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.states import Crashed, Scheduled

from calltally.stack.automations import BY_ITSELF, PATIENCE, STARTED_AGAIN, Patience, unresponsive_after
from calltally.stack.warm_worker import TERMINAL

log = logging.getLogger("billing.worker")

LOOK_SECONDS: Final = 30.0
NIGHT: Final = "reconcile_calls"
AGAIN: Final = 3
"""So often is a night started again; then people have to look."""
REMEMBERED: Final = timedelta(hours=12)
"""A night that ended longer ago is the next one's affair, which looks back three days."""
AT_ONCE: Final = 200
SLOT_LOST: Final = "Deployment concurrency slot lost"
"""What Prefect says of a run that it cancels by itself."""
KEY: Final = re.compile(r"again:(?P<first>[0-9a-f-]{36}):(?P<number>\d+)")


class RunWatch:
    """One worker's watch; however many look, a run crashes once and is started again once."""

    def __init__(self, patience: Patience = PATIENCE, *, answering_since: datetime | None = None) -> None:
        """Prefect's server has been there since then; None: since the first look."""
        self._patience = patience
        self._answering_since = answering_since
        self._dealt_with: set[UUID] = set()

    async def watch(self) -> None:
        """Look every half minute, until cancelled; a server that is away is none of its business."""
        while True:
            try:
                await self.look(datetime.now(UTC))
            except Exception as error:  # noqa: BLE001 - whatever happens to a look, the work goes on
                self._answering_since = None
                log.warning("run_watch.failed error=%s", type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, now: datetime) -> None:
        """Mark what is gone, and start again what has to be.

        Raises httpx.HTTPError, PrefectException or RuntimeError while the Prefect server can't be reached.
        """
        async with AsyncClientContext.get_or_create() as context:
            client = context.client
            for run in await _runs(client, StateType.PENDING, until=now - self._patience.unstarted):
                minutes = self._patience.unstarted.total_seconds() / 60
                await _crash(client, run, f"Taken by a worker, and not begun within {minutes:g} minutes")
            await self._mark_silent(client, now)
            await self._start_again(client, now)

    async def _mark_silent(self, client: PrefectClient, now: datetime) -> None:
        """Silence proves nothing while nobody took signs of life: the server has to have been there for as long."""
        silence = self._patience.lost or unresponsive_after()
        self._answering_since = self._answering_since or now
        if silence is None or now - self._answering_since < silence:
            return
        for run in await _runs(client, StateType.RUNNING, until=now - silence):
            if not await _gave_sign_of_life(client, run.id, since=now - silence):
                await _crash(client, run, f"No sign of life for {silence.total_seconds():.0f} s")

    async def _start_again(self, client: PrefectClient, now: datetime) -> None:
        for run in await _ended_nights(client, since=now - REMEMBERED):
            if run.id in self._dealt_with or not _is_to_be_started_again(run, now, self._patience):
                continue
            known = KEY.fullmatch(run.idempotency_key or "")
            first, number = (known["first"], int(known["number"]) + 1) if known else (str(run.id), 1)
            if number <= AGAIN and run.deployment_id is not None:
                due = run.expected_start_time or now
                await client.create_flow_run_from_deployment(
                    run.deployment_id,
                    parameters=run.parameters,
                    # Of the same time, so that it covers the same window.
                    state=Scheduled(name=STARTED_AGAIN, scheduled_time=due),
                    name=f"start {number + 1} of {AGAIN + 1}",
                    tags=run.tags,
                    idempotency_key=f"again:{first}:{number}",
                )
                log.warning("night.started_again run=%s state=%s start=%s", run.id, run.state_name, number + 1)
            else:
                log.error("night.given_up run=%s state=%s starts=%s", run.id, run.state_name, AGAIN + 1)
            self._dealt_with.add(run.id)


def _is_to_be_started_again(run: FlowRun, now: datetime, patience: Patience) -> bool:
    """Whatever took its process or its time; what fails by itself waits, and only if a schedule has started it.

    Whoever starts a run in a terminal sees how it ends; whoever cancels one means it.
    """
    if run.state is None or TERMINAL in run.tags:
        return False
    if run.state.type == StateType.CANCELLED:
        return (run.state.message or "").startswith(SLOT_LOST)
    if run.state.type == StateType.CRASHED or run.state.name == "TimedOut":
        return True
    return BY_ITSELF in run.tags and run.end_time is not None and run.end_time <= now - patience.failed


async def _runs(client: PrefectClient, state: StateType, *, until: datetime) -> Iterable[FlowRun]:
    """Our runs that have been in a state since then or longer."""
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=["calltally"]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
        ),
        sort=FlowRunSort.START_TIME_ASC,
        limit=AT_ONCE,
    )
    return [run for run in found if run.state is not None and run.state.timestamp <= until]


async def _ended_nights(client: PrefectClient, *, since: datetime) -> Iterable[FlowRun]:
    """Those that ended otherwise than planned."""
    ended = [StateType.CRASHED, StateType.FAILED, StateType.CANCELLED]
    return await client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[NIGHT])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=["calltally"]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ended)),
            end_time=FlowRunFilterEndTime.model_validate({"after_": since}),
        ),
        limit=AT_ONCE,
    )


async def _gave_sign_of_life(client: PrefectClient, run_id: UUID, *, since: datetime) -> bool:
    page = await client.read_events(
        EventFilter(
            event=EventNameFilter(prefix=["prefect.flow-run."]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
            occurred=EventOccurredFilter.model_validate({"since": since}),
        ),
        limit=1,
    )
    return bool(page.events)


async def _crash(client: PrefectClient, run: FlowRun, why: str) -> None:
    """Prefect refuses that of a run which has ended meanwhile."""
    await client.set_flow_run_state(run.id, Crashed(message=f"{why}: its process is gone."))
    log.warning("run.crashed run=%s state=%s", run.id, run.state_name)
