"""One request to Vapi's API, at the shared pace and with patience; what its failures mean."""

import asyncio
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TypeVar

import httpx

from billing.errors import BillingError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.pace import Pace, Patience, seconds_to_wait, shared_pace
from billing.process import NotConfigured
from billing.provider_json import UNREADABLE
from billing.settings import Settings

T = TypeVar("T")

CONNECTIONS = 8
TIMEOUT = httpx.Timeout(60, connect=10, pool=None)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VapiClient:
    """A client with our key, and how it behaves."""

    http: httpx.AsyncClient
    pace: Pace = field(default_factory=lambda: Pace(0))
    patience: Patience = field(default_factory=Patience)
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))
    """Those that are free."""

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
        counts: Counter[type[BillingError]] = Counter()
        waited = 0.0
        while True:
            async with self.connections:  # queueing for our own connections is none of Vapi's time
                turn = await self.pace.turn(self.patience.total_delay_seconds)
                try:
                    result = await self._answer(build(), read)
                except (RateLimited, ProviderUnavailable) as caught:
                    error: RateLimited | ProviderUnavailable = caught
                else:
                    self.pace.speed_up()
                    return result
            counts[type(error)] += 1
            tries, refused = counts[type(error)], isinstance(error, RateLimited)
            waited += self._give_way(error, turn, tries)
            most = self.patience.refused_tries if refused else self.patience.tries
            if tries >= most or waited > self.patience.total_delay_seconds:
                raise error
            logger.warning("vapi.failed tries=%d waited_seconds=%.1f error=%s", tries, waited, error)
            if not refused:
                failed()
                spread = random.uniform(0.5, 1)  # noqa: S311 - of those who failed together
                await self.pace.sleep(self.patience.delay_seconds(tries) * spread)

    def _give_way(self, error: RateLimited | ProviderUnavailable, turn: int, tries: int) -> float:
        """How long to wait, in seconds; what Vapi said about that, or a refusal, holds for everybody."""
        own = self.patience.delay_seconds(tries)
        said: float = error.facts.get("retry_after_seconds") or 0.0
        if isinstance(error, RateLimited):
            self.pace.slow_down(turn)
            self.pace.pause(max(own, said))
        elif said:
            self.pace.pause(said)
        return max(own, said)

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


def require_key(settings: Settings) -> str:
    """Our key.

    Raises:
        NotConfigured: there is none.
    """
    if settings.vapi_api_key is None:
        raise NotConfigured("VAPI_API_KEY is not set: the list of calls needs the private key of your Vapi account")
    return settings.vapi_api_key.get_secret_value()


@asynccontextmanager
async def connect_vapi(
    settings: Settings, patience: Patience | None = None, *, budget: str = "list", processes: int = 1
) -> AsyncIterator[VapiClient]:
    """A client with our key, at the pace that everybody of this process shares who asks from the same budget.

    `processes` of a run ask at once, each at its part of the rate.

    Raises:
        NotConfigured: there is no key.
    """
    headers = {"Authorization": f"Bearer {require_key(settings)}"}
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(
        base_url=settings.vapi_base_url, headers=headers, timeout=TIMEOUT, limits=limits, verify=_tls()
    ) as http:
        pace = shared_pace(f"{budget} of {settings.vapi_base_url}", settings.vapi_requests_per_second / processes)
        yield VapiClient(http, pace, patience or Patience())


@cache
def _tls() -> ssl.SSLContext:
    """Reading all certificates takes longer than a whole window of few calls."""
    return httpx.create_ssl_context()


def stamp(moment: datetime) -> str:
    """A time as Vapi writes it; finer than a millisecond is cut off."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _require_success(answer: httpx.Response) -> None:
    """Bodies of errors may be HTML, and are not for logs."""
    status = answer.status_code
    if status == httpx.codes.UNAUTHORIZED:
        raise ProviderRefused(
            "Vapi refuses VAPI_API_KEY (401). Set it to the private key of the account, not the public one: "
            "Vapi dashboard, Organization Settings, API Keys",
            status=status,
        )
    wait_seconds = seconds_to_wait(answer.headers, time.time())
    if status == httpx.codes.TOO_MANY_REQUESTS:
        when = "later" if wait_seconds is None else f"in {wait_seconds:.0f} s"
        raise RateLimited(f"Vapi asks us to slow down (429): run it again {when}", retry_after_seconds=wait_seconds)
    if answer.is_server_error or status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT}:
        raise ProviderUnavailable(f"Vapi answered {status}", status=status, retry_after_seconds=wait_seconds)
    if not answer.is_success:
        raise ProviderRefused(f"Vapi refuses the request for its calls ({status})", status=status)
