"""Forgets what webhooks said long ago, and makes room for what they will say."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from tasks.inbox import prepare_months, prune_inbox
from tasks.runs import name_this_run

TIMEOUT_SECONDS = 6 * 3600
"""The first one after years may have much to forget; each step is a transaction of its own."""


@flow(name="prune_events", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def prune_events(
    body_days: Annotated[int, Field(ge=1, le=3650)] = 30, row_days: Annotated[int, Field(ge=30, le=3650)] = 400
) -> None:
    """Forget what finished webhooks said, since bodies hold personal data; the books need none of it.

    Bodies lie in months of their arrival, which are dropped whole. Those of the next three months are made ahead.
    Dead, parked and unfinished events keep their bodies until they are applied.

    When it fails: the database was away, or somebody held the bodies for long. The next night catches up.

    Args:
        body_days: A month of bodies is dropped once it ended so many days ago, 1 to 3,650: each body is kept for as
            many days, and for a month more at most.
        row_days: Done and skipped events themselves are removed so many days after they ended, 30 to 3,650. A
            repetition that comes later still books nothing twice.
    """
    await prepare_months()
    gone = await prune_inbox(body_days, row_days)
    await name_this_run(f"forget {gone.months} months of bodies, {gone.bodies} other bodies and {gone.events} events")
