"""Tasks that recover payments whose webhook never arrived: one question to Stripe, or one transaction."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from billing import inbox
from billing.alerts import note_condition
from billing.deliveries import Delivery
from billing.process import get_engine
from billing.rules import undelivered_webhooks
from billing.settings import get_settings
from billing.stripe_list import list_events, open_stripe
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.payments")


@task(
    task_run_name="list payment events from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def list_payments(start: datetime, end: datetime) -> list[Delivery]:
    """Every event of Stripe's that has an effect on the books, with `start <= created < end`."""
    async with open_stripe(get_settings()) as client:
        return await list_events(client, start, end)


@task(
    task_run_name="store what the inbox lacks",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def store_missed(events: Sequence[Delivery], dry_run: bool) -> list[Delivery]:
    """Put events that never arrived into the inbox, where they are applied as if they had; which those are."""
    missed = await asyncio.to_thread(inbox.not_accepted, get_engine(), events)
    if missed and not dry_run:
        await asyncio.to_thread(inbox.accept, get_engine(), missed)
    log.info("payments.missed count=%d of=%d dry_run=%s", len(missed), len(events), dry_run)
    return missed


@task(
    task_run_name="note {count} undelivered events",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def note_undelivered(count: int, start: datetime) -> None:
    """Open, keep or close the incident of webhooks that Stripe does not deliver."""
    facts = undelivered_webhooks.facts(count, start)
    await asyncio.to_thread(note_condition, get_engine(), undelivered_webhooks.NAME, count > 0, facts)
