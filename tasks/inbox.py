"""Tasks on the inbox; each is one transaction, except that a batch which fails is tried again by halves."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run, task_run

from billing import applying, inbox
from billing.applying import Applied
from billing.errors import BillingError, ClaimLost, TransientError
from billing.events import NO_ANSWERS
from billing.inbox import Claimed, ClaimedEvent, Event, Failure, Pruned, in_words
from billing.literal import in_markdown
from billing.payments import Answers
from billing.process import get_engine, process_name
from billing.provider_pages import event_page, linked
from billing.settings import get_settings
from billing.unapplied import next_step
from tasks.retries import DELAYS_SECONDS, RETRIES, is_its_own, is_transient

log = logging.getLogger("billing.inbox")

MAX_ROWS = 100
"""Events in a table of Prefect's UI."""
SUSPECTS_SECONDS = 300
"""For how long a run goes on with suspects, within its own limit; the next one takes the rest."""
RELEASE_DELAYS_SECONDS = (0, 1, 2, 4, 8)
"""A database that restarts is back within seconds, and until their lease ends the events are ours to give back."""

_SUSPECTS = asyncio.Lock()
"""Held by the run of this process that applies suspects; nobody ever waits for it."""


@task(task_run_name="claim up to {limit} events", cache_policy=NO_CACHE)
async def claim_events(limit: int) -> Claimed:
    """Take waiting events, oldest first, and whatever a worker that died has left, but what it may have died of."""
    claimed = await asyncio.to_thread(inbox.take, get_engine(), process_name(), limit, flow_run.id, suspects=False)
    log.info("events.claimed count=%d ids=%s", len(claimed.events), [event.id for event in claimed.events[:10]])
    return claimed


def _apply_run_name() -> str:
    return f"apply {in_words(task_run.parameters['events'])}"


@task(task_run_name=_apply_run_name, cache_policy=NO_CACHE)
async def apply_events(events: list[ClaimedEvent], *, again: bool = False) -> Applied:
    """Book what the events mean, together; those that fail alone come back as failures, noted and still ours.

    An error that cannot pass ends its event here and now. What cannot be applied through no fault of its own is back
    in line. `again`: they were set aside before.
    """
    if again:
        await asyncio.to_thread(inbox.note_applying, get_engine(), events, applying=True)
    return await _apply(events)


@task(task_run_name="apply one by one what workers died with", cache_policy=NO_CACHE)
async def apply_suspects() -> tuple[list[Event], Applied]:
    """Take and apply suspects one by one, until none waits; which ones, and what became of them.

    Whatever kills this process next takes along one of them, and not an innocent neighbour. So one run of a process
    is at it at a time; others find nothing here to do. What has to be tried again, or asked about, ends the round:
    its wait is not theirs.
    """
    taken: list[Event] = []
    total = Applied(Counter(), [])
    if are_suspects_in_hand():
        return taken, total
    async with _SUSPECTS:
        began = time.monotonic()
        while (
            not total.failures
            and not total.asked
            and total.held is None
            and time.monotonic() - began < SUSPECTS_SECONDS
        ):
            try:
                claimed = await asyncio.to_thread(
                    inbox.claim, get_engine(), process_name(), 1, flow_run.id, suspects=True
                )
                if not claimed:
                    break
                log.info("events.suspect event=%d", claimed[0].id)
                taken += [Event(event.id, event.provider, event.type) for event in claimed]
                total += await _apply(claimed)
            except BillingError as error:
                if not error.affects_everything:
                    raise
                total += Applied(Counter(), [], held=error)
    return taken, total


def are_suspects_in_hand() -> bool:
    """Whether a run of this process is applying suspects."""
    return _SUSPECTS.locked()


@task(
    task_run_name="retry {event.name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_its_own,
)
async def apply_event(event: ClaimedEvent) -> Applied:
    """Apply one event that failed before; after the last attempt it is dead.

    Raises:
        TransientError: this attempt failed as well; Prefect makes the next one, unless the event is back in line.
    """
    return await _attempt(event, NO_ANSWERS)


@task(
    task_run_name="apply {event.name} with what Stripe said",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_its_own,
)
async def apply_answered(event: ClaimedEvent, answers: Answers) -> Applied:
    """The same for an event about which Stripe was asked; it may be asked once more.

    Raises:
        TransientError: this attempt failed; Prefect makes the next one.
    """
    return await _attempt(event, answers)


async def _attempt(event: ClaimedEvent, answers: Answers) -> Applied:
    last = task_run.run_count > RETRIES
    try:
        await asyncio.to_thread(inbox.note_applying, get_engine(), [event], applying=True)
        return await _set_aside(await asyncio.to_thread(applying.attempt, get_engine(), [event], answers))
    except ClaimLost:
        log.warning("event.claim_lost event=%d", event.id)
        return Applied(Counter(), [])
    except BillingError as error:
        if error.affects_everything:
            await _release([event], error)
        else:
            await note_failure(Failure(event, error), dead=last or not isinstance(error, TransientError))
        raise


@task(task_run_name="show what was not applied", cache_policy=NO_CACHE)
async def show_unsettled(events: Sequence[Event], outcome: str) -> None:
    """Those of the events that are dead, parked or delayed, with their reasons, as a table in Prefect's UI."""
    found = await asyncio.to_thread(inbox.unsettled, get_engine(), [event.id for event in events], MAX_ROWS)
    table = [
        {
            "state": row["state"],
            "event": linked(f"{row['provider']} {row['type']}", _page(row)),
            "reason": in_markdown(str(row["reason"] or "")),
            "look at it": f"calltally events show {row['id']}",
            "next step": in_markdown(next_step(row["state"], str(row["reason"]), row["id"]).replace("`", "")),
        }
        for row in found
    ]
    described = f"{in_markdown(outcome)}. Those that were not applied, {MAX_ROWS} at most:"
    await acreate_table_artifact(table, key="events-not-applied", description=described)


@task(
    task_run_name="make months for what comes",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def prepare_months() -> int:
    """Make the months in which coming bodies will lie; how many were missing."""
    return await asyncio.to_thread(inbox.ensure_partitions, get_engine())


@task(
    task_run_name="forget old events",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def prune_inbox(body_days: int, row_days: int) -> Pruned:
    """Remove what is old, a little at a time."""
    total = Pruned()
    while (pruned := await asyncio.to_thread(inbox.prune, get_engine(), body_days, row_days)) != Pruned():
        total += pruned
    return total


@asynccontextmanager
async def lease_renewed(events: Sequence[ClaimedEvent]) -> AsyncIterator[None]:
    """Keep the claim while a batch takes long, but not for ever; if that fails, the fence still holds."""

    async def renew() -> None:
        began = time.monotonic()
        while time.monotonic() - began < inbox.LONGEST_APPLYING.total_seconds():
            await asyncio.sleep(inbox.LEASE.total_seconds() / 3)
            with suppress(BillingError):
                await asyncio.to_thread(inbox.extend_lease, get_engine(), events)
        log.warning("events.hanging count=%d ids=%s", len(events), [event.id for event in events[:10]])

    renewal = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewal.cancel()


def _page(row: Mapping[str, Any]) -> str | None:
    return event_page(row["provider"], row["delivery_key"], get_settings())


async def _apply(events: list[ClaimedEvent]) -> Applied:
    try:
        async with lease_renewed(events):
            applied = await asyncio.to_thread(applying.apply_batch, get_engine(), events)
        return await _end_failures(applied)
    except BillingError as error:
        if error.affects_everything:
            await _release(events, error)
        raise


async def _end_failures(applied: Applied) -> Applied:
    """Note them; what is left of them is to be tried again."""
    ended, kept = applied.ended.copy(), []
    refused = [failure for failure in applied.failures if failure.error.affects_everything]
    if refused:
        await _release([failure.event for failure in refused], refused[0].error)
    for failure in applied.failures:
        if isinstance(failure.error, ClaimLost):
            log.warning("event.claim_lost event=%d", failure.event.id)
        elif not isinstance(failure.error, TransientError):
            await note_failure(failure, dead=True)
            ended["dead"] += 1
        elif failure not in refused:
            await note_failure(failure, dead=False)
            kept.append(failure)
    log.info("events.applied %s delayed=%d released=%d", dict(ended), len(kept), len(refused))
    return await _set_aside(Applied(ended, kept, applied.asked, refused[0].error if refused else None))


async def _set_aside(applied: Applied) -> Applied:
    """What Stripe is asked about is kept, and not applied meanwhile."""
    if applied.asked:
        events = [asked.event for asked in applied.asked]
        await asyncio.to_thread(inbox.note_applying, get_engine(), events, applying=False)
    return applied


async def _release(events: Sequence[ClaimedEvent], reason: BillingError) -> None:
    """Give events back, as soon as the database takes them; else they go back when their lease ends."""
    for delay_seconds in RELEASE_DELAYS_SECONDS:
        await asyncio.sleep(delay_seconds)
        with suppress(BillingError):
            count = await asyncio.to_thread(inbox.release, get_engine(), events)
            log.warning("events.released count=%d error=%s", count, type(reason).__name__)
            return
    log.warning("events.not_released count=%d ids=%s", len(events), [event.id for event in events[:10]])


async def note_failure(failure: Failure, *, dead: bool, lease: timedelta = inbox.LEASE) -> None:
    """Write a failed attempt down; who lost the event has nothing to say about it any more."""
    run_id = flow_run.id
    try:
        await asyncio.to_thread(inbox.fail, get_engine(), failure, dead=dead, flow_run_id=run_id, lease=lease)
    except ClaimLost:
        log.warning("event.claim_lost event=%d", failure.event.id)
        return
    kind = "event.dead" if dead else "event.delayed"
    log.warning("%s event=%d error=%s", kind, failure.event.id, type(failure.error).__name__)
