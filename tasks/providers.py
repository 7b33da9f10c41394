"""Tasks that ask the provider; each is one window of its list, and can be repeated alone."""

from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from billing.settings import get_settings
from billing.vapi_list import Clock, Row, list_window, open_vapi
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient


@task(
    task_run_name="list calls by {clock} from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def list_calls(clock: Clock, start: datetime, end: datetime) -> list[Row]:
    """Every call of Vapi's list with `start <= clock < end`."""
    async with open_vapi(get_settings()) as client:
        return await list_window(client, clock, start, end)
