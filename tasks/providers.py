"""Tasks that ask the provider; each is one stretch of its list, and can be repeated alone."""

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from billing.errors import TransientError
from billing.figures import Totals
from billing.night_windows import Range, Span
from billing.pace import Patience
from billing.settings import get_settings
from billing.vapi_client import VapiClient, connect_vapi
from billing.vapi_totals import read_totals
from tasks.open_list import read_span
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.night")

TOTALS_PATIENCE = Patience(total_delay_seconds=600)
"""A night need not wait for its proof as long as for its list."""


@task(
    task_run_name="list calls by {span.clock} from {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def list_calls(run_id: UUID, span: Span, processes: int = 1) -> pd.DataFrame:
    """Every call of Vapi's list with `start <= clock < end`, as a provider frame; so many processes list at once."""
    return await read_span(run_id, span, processes)


@task(
    task_run_name="ask for the provider's own totals",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def provider_totals(parts: Sequence[Range]) -> dict[Range, Totals | None]:
    """Number and cost of the calls created in each part; None where the provider does not say.

    They only prove what is listed anyway, so in the last try an outage is no more than a missing proof. What it says
    about waiting does not hold up the list either: if that is meant, the list is refused as well.
    """
    is_last_try = task_run.run_count > RETRIES
    async with connect_vapi(get_settings(), TOTALS_PATIENCE, budget="totals") as client:
        asking = (_totals_of(client, part, is_last_try) for part in parts)
        answers = await asyncio.gather(*asking, return_exceptions=True)  # so that nobody is left with a closed client
    totals: dict[Range, Totals | None] = {}
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        totals[part] = answer
    return totals


async def _totals_of(client: VapiClient, part: Range, is_last_try: bool) -> Totals | None:
    try:
        return await read_totals(client, *part)
    except TransientError as error:
        if not is_last_try:
            raise
        log.warning("totals.unavailable from=%s to=%s reason=%s", *part, error)
        return None
