"""Asks Stripe what an event does not say: each task is one request."""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from billing.applying import Asked
from billing.errors import PermanentError, TransientError
from billing.inbox import Failure
from billing.settings import get_settings
from billing.stripe_client import ask
from tasks.inbox import note_failure
from tasks.retries import DELAYS_SECONDS, RETRIES, is_transient

log = logging.getLogger("billing.payments")

ASKED_AGAIN_AFTER: Final = timedelta(minutes=10)
"""When Stripe has not answered at all, the event goes back in line: its twin may have said all by then."""


@task(
    task_run_name="ask Stripe for {asked.name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
)
async def ask_stripe(asked: Asked) -> bytes | None:
    """What Stripe says, as JSON; None if it refuses to say, and then the event waits with that as its reason.

    Raises:
        TransientError: this attempt failed; Prefect makes the next one. After the last, the event comes back later.
    """
    try:
        answer = await asyncio.to_thread(ask, get_settings(), asked.question)
    except TransientError as error:
        last = task_run.run_count > RETRIES
        await note_failure(Failure(asked.event, error), dead=False, **({"lease": ASKED_AGAIN_AFTER} if last else {}))
        raise
    except PermanentError as error:
        log.warning("stripe.refused event=%d reason=%s", asked.event.id, error)
        return None
    log.info("stripe.asked event=%d kind=%s", asked.event.id, asked.question.kind)
    return answer
