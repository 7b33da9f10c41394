"""Applies the webhooks that wait in the inbox to the books."""

import asyncio
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from billing.inbox import in_words
from tasks.alerts import note_dead_events, send_alerts
from tasks.inbox import apply_event, apply_events, claim_events, show_unsettled
from tasks.runs import name_at_first, name_this_run

HARMLESS = {"done", "skipped"}
"""How events end about which nobody has to do anything."""


TIMEOUT_SECONDS = 15 * 60
"""A batch takes seconds and its retries 14; until then its events keep their place in line."""


@flow(name="process_webhooks", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def process_webhooks(
    batch_limit: Annotated[int, Field(ge=1, le=10_000)] = 1000,
) -> State[dict[str, int]]:
    """Apply the webhooks that wait in the inbox.

    The worker starts this flow whenever something arrives, on everything that waits; once a minute it also runs as
    a sweep, which puts the events of workers that died back in line. Starting it by hand does no harm.

    Its final state says how many events ended how. If one is dead or parked, the name of the run says so as well, and
    a table shows which, why, and what to do.

    When it fails: the database was away. Nothing is lost; the next run takes the same events.

    Slack is told of events that died: one message per kind of error, a reminder after a day if more died of it, and
    an all-clear when none is left. These runs also send what other flows could not.

    Args:
        batch_limit: At most so many events in this run, 1 to 10,000; the next one takes the rest.
    """
    await name_at_first("take what waits")
    events = await claim_events(batch_limit)
    if not events:
        await name_this_run(in_words(events))
        await _tell_of_dead_events()
        return Completed(message="nothing to do", data={})
    applied = await apply_events(events)
    await name_this_run(in_words(events))
    retries = await asyncio.gather(*(apply_event(f.event) for f in applied.failures), return_exceptions=True)
    saved = retries.count(None)
    ended = {**applied.ended, "done after retry": saved, "retried in vain": len(retries) - saved}
    outcome = ", ".join(f"{count} {how}" for how, count in sorted(ended.items()) if count)
    if applied.ended["dead"] or ended["retried in vain"]:
        await _tell_of_dead_events()
    if ended["retried in vain"] or not HARMLESS.issuperset(applied.ended):
        await name_this_run(f"{in_words(events)}: {outcome}")
        await show_unsettled(events, outcome)
    return Completed(message=outcome, data=ended)


async def _tell_of_dead_events() -> None:
    if await note_dead_events():
        await send_alerts()
