"""Asks Twilio about messages that no callback told of, or not all: its list by day, then one by one."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from billing.errors import ProviderRefused, ProviderUnavailable
from billing.twilio_api import list_path
from tasks.messages import (
    BATCH,
    choose_accounts,
    choose_messages,
    read_messages,
    read_page,
    settle_messages,
    settle_page,
)
from tasks.runs import name_this_run

TIMEOUT_SECONDS = 2 * 3600
"""Thousands of messages at the pace that Twilio allows; one that hangs keeps the next hours waiting."""


@flow(name="poll_messages", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def poll_messages(
    stale_hours: Annotated[int, Field(ge=1, le=720)] = 12,
    limit: Annotated[int, Field(ge=1, le=100_000)] = 10_000,
    list_days: Annotated[int, Field(ge=0, le=400)] = 3,
) -> dict[str, int]:
    """Settle messages through Twilio's own record of them.

    A status callback says neither how many segments a message has nor what it cost, and one that gets lost does not
    come again. So Twilio's list of the last days is read first, which also tells of messages whose callbacks were all
    lost. Then each message that a carrier took is asked for until segments and price are known, and each that came to
    no end for long, ever more rarely and for 30 days; so is one without organization, if a route by number may say
    whose it is. Whatever is then known is charged once.

    When it fails: Twilio did not answer, refuses the token, or knows none of our messages; the message says which.
    What was read is settled; the next run asks for the rest.

    Args:
        stale_hours: How long a message may take to be delivered before it is asked for.
        limit: At most so many messages are asked for one by one, those with an organization and longest unasked
            first; the next run takes the rest.
        list_days: So many days of Twilio's list are read, today's among them; 0 for none. After a restore: as many
            as are missing.
    """
    listed = await _read_lists(list_days)
    due = await choose_messages(stale_hours, limit)
    await name_this_run(f"ask Twilio about {len(due)} messages")
    outcomes: Counter[str] = Counter()
    trouble: str | None = None
    for start in range(0, len(due), BATCH):
        answers = await read_messages(due[start : start + BATCH])
        outcomes += await settle_messages(answers)
        trouble = trouble or answers.trouble
    if trouble:
        raise ProviderRefused(trouble)
    return dict(listed + outcomes)


async def _read_lists(days: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    if days == 0:
        return outcomes
    for account_sid in await choose_accounts():
        for day in _last(days):
            path: str | None = list_path(account_sid, day)
            read: set[str] = set()
            while path is not None:
                if path in read:
                    raise ProviderUnavailable(
                        f"Twilio's list of {day} names a page as the next that was read, so it has no end"
                    )
                read.add(path)
                page = await read_page(path)
                outcomes += await settle_page(page)
                path = page.next_path
    return outcomes


def _last(days: int) -> list[date]:
    """The oldest first, as messages are charged."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in reversed(range(days))]
