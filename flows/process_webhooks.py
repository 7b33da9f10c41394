"""Applies the webhooks that wait in the inbox to the books."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from billing.applying import Applied, Asked
from billing.errors import BillingError, TransientError
from billing.inbox import Claimed, Event, in_words
from billing.payments import Question
from tasks.alerts import note_dead_events, send_alerts
from tasks.inbox import (
    apply_answered,
    apply_event,
    apply_events,
    apply_suspects,
    claim_events,
    lease_renewed,
    show_unsettled,
)
from tasks.questions import ask_stripe
from tasks.runs import name_at_first, name_this_run

SAVED, VAIN = "done after retry", "retried in vain"
HARMLESS = {"done", "skipped", SAVED}
"""How events end about which nobody has to do anything."""
NOTHING = Applied(Counter(), [])

TWIN_PATIENCE = timedelta(seconds=2)
"""How long an event that does not say all waits for the one that does, before Stripe is asked."""
REQUESTS_AT_ONCE = 4
"""Stripe allows 25 a second for one kind of object, and each takes a fifth of one."""
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
    a table shows which, why, and what to do. Events with which a worker died are applied one by one.

    When it fails: the database was away, or refuses what is right, since a function or a grant is missing or it is
    read-only. Nothing is lost; what it could not apply waits, and a later run takes it.

    Slack is told of events that died: one message per kind of error, a reminder after a day if more died of it, and
    an all-clear when none is left. These runs also send what other flows could not.

    Args:
        batch_limit: At most so many events in this run, 1 to 10,000; the next one takes the rest.
    """
    await name_at_first("take what waits")
    claimed = await claim_events(batch_limit)
    batch = await apply_events(claimed.events) if claimed.events else NOTHING
    await name_this_run(in_words(claimed.events))
    together, (suspects, alone) = await asyncio.gather(_complete(batch), _apply_suspects(claimed))
    events, applied = [*claimed.events, *suspects], together + alone
    counts, held = applied.ended, applied.held
    outcome = ", ".join(f"{count} {how}" for how, count in sorted(counts.items())) or "nothing to do"
    unsettled = not HARMLESS.issuperset(counts)
    if claimed.died or unsettled or not events:
        await _tell_of_dead_events()
    if events:
        told = f": {outcome}" if unsettled else f": {type(held).__name__}, the rest waits" if held else ""
        await name_this_run(f"{in_words(events)}{told}")
    if unsettled:
        await show_unsettled(events, outcome)
    if held:
        raise held
    return Completed(message=outcome, data={**counts, SAVED: counts[SAVED], VAIN: counts[VAIN]} if events else {})


async def _apply_suspects(claimed: Claimed) -> tuple[list[Event], Applied]:
    """Beside all that the batch waits for."""
    if not claimed.suspects:
        return [], NOTHING
    events, applied = await apply_suspects()
    return events, await _complete(applied)


async def _complete(applied: Applied) -> Applied:
    """Retry what failed, and find out what events do not say; how all of them ended."""
    retries = await asyncio.gather(*(apply_event(f.event) for f in applied.failures), return_exceptions=True)
    saved = [retried for retried in retries if isinstance(retried, Applied)]
    held = [error for error in retries if isinstance(error, BillingError) and error.affects_everything]
    asked = [*applied.asked, *(each for retried in saved for each in retried.asked)]
    settled = await _settle(asked) if asked else NOTHING
    counts = Counter({SAVED: len(saved), VAIN: len(retries) - len(saved) - len(held)})
    why = next(iter(held), settled.held)
    return Applied(applied.ended + settled.ended + counts, [], held=applied.held or why)


async def _settle(asked: list[Asked]) -> Applied:
    """Find out what events do not say; how they ended.

    Stripe tells of a payment by two events at almost the same time, and one of them says all: so the other waits
    for a moment, and a burst of payments becomes no burst of requests.
    """
    events = [each.event for each in asked]
    async with lease_renewed(events):
        if any(datetime.now(UTC) - event.received_at < TWIN_PATIENCE for event in events):
            await asyncio.sleep(TWIN_PATIENCE.total_seconds())
        applied = await apply_events(events, again=True)  # what fails now goes back in line when its lease is over
        places = asyncio.Semaphore(REQUESTS_AT_ONCE)
        answered = await asyncio.gather(*(_answer(each, places) for each in applied.asked))
    return sum(answered, Applied(applied.ended, [], held=applied.held))


async def _answer(asked: Asked, places: asyncio.Semaphore) -> Applied:
    """Ask Stripe until the event says enough, which takes three questions at most."""
    answers: dict[Question, bytes | None] = {}
    more = [asked]
    try:
        async with places:
            while more:
                answers[more[0].question] = await ask_stripe(more[0])
                applied = await apply_answered(asked.event, answers)
                more = applied.asked
    except TransientError as error:
        if error.affects_everything:
            return Applied(Counter(), [], held=error)
        return Applied(Counter({"to be asked about again": 1}), [])
    except BillingError:
        return Applied(Counter({"dead": 1}), [])
    return applied


async def _tell_of_dead_events() -> None:
    if await note_dead_events():
        await send_alerts()
