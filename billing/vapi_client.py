"""One request to Vapi's API, at the shared pace and with patience; what its failures mean."""

import asyncio
import itertools
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TypeVar

import httpx

from billing.errors import ProviderRefused, ProviderUnavailable, RateLimited
from billing.pace import Pace, Patience, seconds_to_wait, shared_pace
from billing.process import NotConfigured
from billing.provider_json import UNREADABLE
from billing.settings import Settings

T = TypeVar("T")

CONNECTIONS = 8
TIMEOUT = httpx.Timeout(60, connect=10, pool=None)
"""Waiting for one of our own connections is no failure of Vapi's."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VapiClient:
    """A client with our key, and how it behaves."""

    http: httpx.AsyncClient
    pace: Pace = field(default_factory=lambda: Pace(0))
    patience: Patience = field(default_factory=Patience)

    async def ask(
        self,
        build: Callable[[], httpx.Request],
        read: Callable[[httpx.Response], T],
        failed: Callable[[], None] = lambda: None,
    ) -> T:
        """What `read` makes of the answer; built and sent again while that helps, `failed` being told before.

        Raises:
            ProviderRefused: at once; wrong key, or a request that Vapi does not accept.
            RateLimited: 429 for longer than our patience.
            ProviderUnavailable: no usable answer in several tries.
        """
        refusals, failures, waited = itertools.count(1), itertools.count(1), 0.0
        while True:
            turn = await self.pace.turn(self.patience.total_delay_seconds)
            try:
                result = await self._answer(build(), read)
            except RateLimited as error:
                tries = next(refusals)
                delay = _delay(error, self.patience, tries)
                self.pace.slow_down(turn, delay)
                waited += delay
                if tries >= self.patience.refused_tries or waited > self.patience.total_delay_seconds:
                    raise
                logger.warning("vapi.rate_limited pause_seconds=%.1f per_second=%.1f", delay, self.pace.per_second)
            except ProviderUnavailable as error:
                tries = next(failures)
                delay = self.patience.delay_seconds(tries)
                waited += delay
                if tries >= self.patience.tries or waited > self.patience.total_delay_seconds:
                    raise
                failed()
                logger.warning("vapi.failed tries=%d error=%s", tries, error)
                await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - spreads those who failed together
            else:
                self.pace.speed_up()
                return result

    async def _answer(self, request: httpx.Request, read: Callable[[httpx.Response], T]) -> T:
        try:
            async with asyncio.timeout(self.patience.answer_seconds):
                answer = await self.http.send(request)
        except (httpx.RequestError, TimeoutError) as error:
            raise ProviderUnavailable(f"Vapi did not answer ({type(error).__name__})") from error
        _require_success(answer)
        try:
            return read(answer)
        except UNREADABLE as error:
            raise ProviderUnavailable(f"Vapi answered 200 with something that is no list: {error}") from error


@asynccontextmanager
async def connect_vapi(settings: Settings, patience: Patience | None = None) -> AsyncIterator[VapiClient]:
    """A client with our key, at the pace of this process.

    Raises:
        NotConfigured: there is no key.
    """
    if settings.vapi_api_key is None:
        raise NotConfigured("VAPI_API_KEY is not set: the list of calls needs the private key of your Vapi account")
    headers = {"Authorization": f"Bearer {settings.vapi_api_key.get_secret_value()}"}
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(
        base_url=settings.vapi_base_url, headers=headers, timeout=TIMEOUT, limits=limits, verify=_tls()
    ) as http:
        pace = shared_pace(settings.vapi_base_url, settings.vapi_requests_per_second)
        yield VapiClient(http, pace, patience or Patience())


@cache
def _tls() -> ssl.SSLContext:
    """Reading all certificates takes longer than a whole window of few calls."""
    return httpx.create_ssl_context()


def stamp(moment: datetime) -> str:
    """A time as Vapi writes it; finer than a millisecond is cut off."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _delay(error: RateLimited, patience: Patience, tries: int) -> float:
    said: float | None = error.facts["retry_after_seconds"]
    return patience.delay_seconds(tries) if said is None else said


def _require_success(answer: httpx.Response) -> None:
    """Bodies of errors may be HTML, and are not for logs."""
    status = answer.status_code
    if status == httpx.codes.UNAUTHORIZED:
        raise ProviderRefused(
            "Vapi refuses VAPI_API_KEY (401). Set it to the private key of the account, not the public one: "
            "Vapi dashboard, Organization Settings, API Keys",
            status=status,
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait_seconds = seconds_to_wait(answer.headers, time.time())
        raise RateLimited("Vapi asks us to slow down (429)", retry_after_seconds=wait_seconds)
    if answer.is_server_error or status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT}:
        raise ProviderUnavailable(f"Vapi answered {status}", status=status)
    if not answer.is_success:
        raise ProviderRefused(f"Vapi refuses the request for its calls ({status})", status=status)
