"""Tasks that ask the provider; each is one stretch of its list, and can be repeated alone."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from billing.figures import Totals
from billing.night import Range, Span
from billing.settings import get_settings
from billing.vapi_client import connect_vapi
from billing.vapi_totals import read_totals
from tasks.open_list import read_span
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient


@task(
    task_run_name="list calls by {span.clock} from {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def list_calls(run_id: UUID, span: Span) -> pd.DataFrame:
    """Every call of Vapi's list with `start <= clock < end`, as a provider frame."""
    return await read_span(run_id, span)


@task(
    task_run_name="ask for the provider's own totals",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def provider_totals(parts: Sequence[Range]) -> dict[Range, Totals | None]:
    """Number and cost of the calls created in each part; None where the provider does not say."""
    async with connect_vapi(get_settings()) as client:
        totals = await asyncio.gather(*(read_totals(client, start, end) for start, end in parts))
    return dict(zip(parts, totals, strict=True))
