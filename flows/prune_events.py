"""Forgets the bodies of events that ended long ago."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from tasks.inbox import prune_inbox
from tasks.runs import name_this_run


@flow(name="prune_events", validate_parameters=True)
async def prune_events(
    body_days: Annotated[int, Field(ge=1, le=3650)] = 30, row_days: Annotated[int, Field(ge=30, le=3650)] = 400
) -> None:
    """Forget what finished webhooks said, since bodies hold personal data; the books need none of it.

    Dead and parked events keep their bodies until they are replayed.

    When it fails: the database was away. The next night catches up.

    Args:
        body_days: Bodies of done and skipped events are removed after so many days, 1 to 3,650.
        row_days: And the events themselves after so many, 30 to 3,650. A repetition that comes later still
            books nothing twice.
    """
    bodies, removed = await prune_inbox(body_days, row_days)
    await name_this_run(f"forget {bodies} bodies and {removed} events")
