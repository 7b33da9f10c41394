"""Tasks on messages: choosing whom to ask about, asking Twilio, and settling what it answers."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from billing import sms
from billing.errors import ProviderRefused, UnreadablePayload
from billing.process import get_engine
from billing.settings import get_settings
from billing.sms import Answers, Unsettled
from billing.twilio import MessagePage, ToldMessage
from billing.twilio_api import fetch_message, fetch_page, open_twilio
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.messages")

BATCH = 50
"""Messages in one task run: so many are asked for again when Twilio refuses one of them for a moment."""
AT_ONCE = 4
UNAUTHORIZED = 401
"""Of the token, so that no message can be asked for; any other refusal may be of one message alone."""


@task(
    task_run_name="choose the messages to ask about",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def choose_messages(stale_hours: int, limit: int) -> list[Unsettled]:
    """The messages whose segments, price, end or sender are not known, longest unasked first."""
    stale = timedelta(hours=stale_hours)
    return await asyncio.to_thread(sms.messages_to_poll, get_engine(), stale, limit)


def _asking() -> str:
    return f"ask Twilio about {len(task_run.parameters['messages'])} messages"


@task(
    task_run_name=_asking,
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def read_messages(messages: Sequence[Unsettled]) -> Answers:
    """The Message resource of each.

    Raises:
        NotConfigured, ProviderRefused: nothing can be asked; the message says what to set.
        RateLimited, ProviderUnavailable: Prefect asks again.
    """
    turn = asyncio.Semaphore(AT_ONCE)
    async with open_twilio(get_settings()) as client:

        async def ask(message: Unsettled) -> ToldMessage | UnreadablePayload | ProviderRefused | None:
            async with turn:
                try:
                    return await fetch_message(client, message.account_sid, message.sid)
                except (UnreadablePayload, ProviderRefused) as error:
                    if error.facts.get("status") == UNAUTHORIZED:
                        raise
                    log.warning("message.not_told sid=%s error=%s", message.sid, error)
                    return error

        found = await asyncio.gather(*(ask(message) for message in messages), return_exceptions=True)
    answered = dict(zip((message.sid for message in messages), found, strict=True))
    for answer in found:
        if isinstance(answer, BaseException) and not isinstance(answer, UnreadablePayload | ProviderRefused):
            raise answer
        if isinstance(answer, ProviderRefused) and answer.facts.get("status") == UNAUTHORIZED:
            raise answer
    return Answers(
        told=[answer for answer in answered.values() if isinstance(answer, ToldMessage)],
        gone=[sid for sid, answer in answered.items() if answer is None],
        unreadable=[sid for sid, answer in answered.items() if isinstance(answer, UnreadablePayload)],
        refused=[sid for sid, answer in answered.items() if isinstance(answer, ProviderRefused)],
    )


@task(
    task_run_name="choose the accounts to list",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def choose_accounts() -> list[str]:
    """Our own account and those that have a route; none without TWILIO_ACCOUNT_SID."""
    own = get_settings().twilio_account_sid
    return [] if own is None else await asyncio.to_thread(sms.accounts, get_engine(), own)


@task(
    task_run_name="read a page of Twilio's list",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def read_page(path: str) -> MessagePage:
    """A page of an account's messages of a day.

    Raises:
        As read_messages; UnreadablePayload if it is no page.
    """
    async with open_twilio(get_settings()) as client:
        return await fetch_page(client, path)


@task(
    task_run_name="record what is new on it",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def settle_page(page: MessagePage) -> Counter[str]:
    """Record what the books did not know, and charge what can be charged; how many messages came to which outcome."""
    new = await asyncio.to_thread(sms.news, get_engine(), page.told)
    outcomes = Counter((await asyncio.to_thread(sms.settle, get_engine(), Answers(new))).values())
    log.info("messages.listed count=%d new=%d unreadable=%d", len(page.told), len(new), page.unreadable)
    return outcomes + Counter({"unreadable": page.unreadable})


@task(
    task_run_name="settle what Twilio answered",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=is_transient,
)
async def settle_messages(answers: Answers) -> Counter[str]:
    """Record it, and charge what can be charged; how many messages came to which outcome."""
    outcomes = Counter((await asyncio.to_thread(sms.settle, get_engine(), answers)).values())
    outcomes += Counter(
        {"gone": len(answers.gone), "unreadable": len(answers.unreadable), "refused": len(answers.refused)}
    )
    log.info("messages.settled %s", dict(outcomes))
    return outcomes
