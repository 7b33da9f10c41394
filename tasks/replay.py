"""Tasks that replay ended events."""

import asyncio
import logging
from collections.abc import Sequence

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from billing import replay
from billing.literal import in_markdown_row
from billing.money import format_micros
from billing.process import get_engine
from billing.replay import Selection

log = logging.getLogger("billing.replay")


@task(task_run_name="choose events", cache_policy=NO_CACHE)
async def choose_events(selection: Selection) -> list[int]:
    """The ids of the events meant."""
    return await asyncio.to_thread(replay.select_events, get_engine(), selection)


@task(task_run_name="rehearse", cache_policy=NO_CACHE)
async def show_rehearsal(ids: Sequence[int]) -> str:
    """The transfers that the events would make, as an artifact; how they would end, in words. Nothing is changed."""
    plan = await asyncio.to_thread(replay.rehearse, get_engine(), ids)
    rows = [
        in_markdown_row(
            {
                "organization": transfer["organization"],
                "transfer": transfer["idempotency_key"],
                "amount": format_micros(transfer["amount_micros"], transfer["currency"]),
            }
        )
        for transfer in plan.transfers
    ]
    outcomes = [outcome["state"] for outcome in plan.outcomes]
    described = ", ".join(f"{outcomes.count(state)} {state}" for state in dict.fromkeys(outcomes))
    description = f"Events would end as: {described}. Their transfers:"
    await acreate_table_artifact(rows, key="replay-rehearsal", description=description)
    return f"rehearsed: events would end as: {described}"


@task(task_run_name="put events back in line", cache_policy=NO_CACHE)
async def put_back_in_line(ids: Sequence[int]) -> int:
    """The worker applies them next; how many."""
    woken = await asyncio.to_thread(replay.replay, get_engine(), ids)
    log.info("events.replayed count=%d", len(woken))
    return len(woken)
