"""Asks Twilio about messages whose segments, price or end no callback told."""

from collections import Counter
from typing import Annotated

from prefect import flow
from pydantic import Field

from tasks.messages import BATCH, choose_messages, read_messages, settle_messages
from tasks.runs import name_this_run

TIMEOUT_SECONDS = 2 * 3600
"""Thousands of messages at the pace that Twilio allows; one that hangs keeps the next hours waiting."""


@flow(name="poll_messages", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def poll_messages(
    stale_hours: Annotated[int, Field(ge=1, le=720)] = 12, limit: Annotated[int, Field(ge=1, le=100_000)] = 10_000
) -> dict[str, int]:
    """Settle messages through Twilio's own record of them.

    A status callback says neither how many segments a message has nor what it cost, and one that gets lost does not
    come again. So each message that a carrier took is asked for until both are known, and each that came to no end
    for long, ever more rarely and for 30 days. Whatever is then known is charged once.

    When it fails: Twilio did not answer, or refuses the token; the message says which. What was read is settled; the
    next run asks for the rest.

    Args:
        stale_hours: How long a message may take to be delivered before it is asked for.
        limit: At most so many messages in this run, those longest unasked first; the next one takes the rest.
    """
    due = await choose_messages(stale_hours, limit)
    await name_this_run(f"ask Twilio about {len(due)} messages")
    outcomes: Counter[str] = Counter()
    for start in range(0, len(due), BATCH):
        outcomes += await settle_messages(await read_messages(due[start : start + BATCH]))
    return dict(outcomes)
