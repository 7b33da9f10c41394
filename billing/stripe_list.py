"""Reads what Stripe still knows of its events (`GET /v1/events`, 30 days), for webhooks that never arrived."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import msgspec

from billing.deliveries import Delivery, identify_stripe
from billing.errors import PermanentError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.events import MEANINGS
from billing.process import NotConfigured
from billing.provider_json import UNREADABLE, decode
from billing.settings import Settings
from billing.times import in_utc

RETENTION: Final = timedelta(days=30)
ON_THE_WAY: Final = timedelta(minutes=10)
"""A webhook that has not come for so long was not delivered at the first attempt."""
PAGE_SIZE: Final = 100
"""Stripe's maximum."""
TYPES: Final = sorted(event_type for provider, event_type in MEANINGS if provider == "stripe")
"""What has an effect on the books."""
MAX_TYPES: Final = 20
"""Of one request."""


class TooLongAgo(PermanentError):
    """Before what Stripe keeps."""


class _Made(msgspec.Struct, frozen=True):
    created: int


class _Page(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw]
    has_more: bool


_page = msgspec.json.Decoder(_Page)
_made = msgspec.json.Decoder(_Made)


def secret_key(settings: Settings) -> str:
    """Our key.

    Raises:
        NotConfigured: there is none.
    """
    if settings.stripe_api_key is None:
        raise NotConfigured(
            "STRIPE_API_KEY is not set: asking for missed payments needs a secret key, or a restricted one that may "
            "read events"
        )
    return settings.stripe_api_key.get_secret_value()


@asynccontextmanager
async def open_stripe(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client with our key.

    Raises:
        NotConfigured: there is no key.
    """
    headers = {"Authorization": f"Bearer {secret_key(settings)}"}
    async with httpx.AsyncClient(
        base_url=settings.stripe_api_base, headers=headers, timeout=httpx.Timeout(60, connect=10)
    ) as client:
        yield client


async def list_events(client: httpx.AsyncClient, start: datetime, end: datetime) -> list[Delivery]:
    """Every event with an effect on the books and `start <= created < end`, as its webhook would have brought it.

    `created` counts whole seconds. What happens meanwhile comes before the first page, which moves no other.

    Raises:
        ProviderRefused: wrong key, or one that may not read events.
        RateLimited, ProviderUnavailable: worth another try; so is a list that goes round in circles.
    """
    events: list[Delivery] = []
    for first in range(0, len(TYPES), MAX_TYPES):
        bounds = [("created[gte]", _seconds(start)), ("created[lt]", _seconds(end)), ("limit", str(PAGE_SIZE))]
        wanted = [*bounds, *(("types[]", event_type) for event_type in TYPES[first : first + MAX_TYPES])]
        more, cursor, known = True, list[tuple[str, str]](), set[str]()
        while more:
            page = await _fetch(client, [*wanted, *cursor])
            found = [identify_stripe(bytes(event)) for event in page.data]
            if known.intersection(event.key for event in found):
                raise ProviderUnavailable(
                    "Stripe's list of events shows a page again that it has shown: try it later"
                )
            events += found
            known.update(event.key for event in found)
            more = page.has_more and bool(found)
            cursor = [("starting_after", found[-1].key)] if found else []
    return events


def undelivered(missed: Sequence[Delivery], now: datetime) -> int:
    """How many of the events that no webhook told us of are too old to be still on their way."""
    youngest = (now - ON_THE_WAY).timestamp()
    return sum(decode(_made, event.body).created < youngest for event in missed)


def payment_window(
    window_from: datetime | None, window_to: datetime | None, scheduled: datetime, look_back: timedelta
) -> tuple[datetime, datetime]:
    """What a person asked for, or so much before the scheduled time.

    Raises:
        TooLongAgo: Stripe has begun to forget the beginning.
    """
    end = in_utc(window_to or scheduled)
    start = end - look_back if window_from is None else in_utc(window_from)
    now = datetime.now(UTC)
    if start < now - RETENTION:
        raise TooLongAgo(
            f"Stripe keeps events for {RETENTION.days} days: those before {now - RETENTION:%Y-%m-%d %H:%M} are "
            "gone. Start later, and credit older payments from the dashboard's list with "
            "`calltally wallet credit ORG AMOUNT --key topup:pi_… --reason …`: under that key none is credited twice."
        )
    return start, end


async def _fetch(client: httpx.AsyncClient, parameters: list[tuple[str, str]]) -> _Page:
    try:
        answer = await client.get("/v1/events", params=httpx.QueryParams(tuple(parameters)))
    except httpx.RequestError as error:
        raise ProviderUnavailable(f"Stripe did not answer ({type(error).__name__})") from error
    _require_success(answer)
    try:
        return decode(_page, answer.content)
    except UNREADABLE as error:
        raise ProviderUnavailable(f"Stripe answered 200 with something that is no list: {error}") from error


def _require_success(answer: httpx.Response) -> None:
    """Bodies of errors are not for logs."""
    status = answer.status_code
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise ProviderRefused(
            f"Stripe refuses STRIPE_API_KEY ({status}). Set it to a secret key of the account, or to a restricted "
            "one that may read events: Stripe dashboard, Developers, API keys",
            status=status,
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited("Stripe asks us to slow down (429)", status=status)
    if answer.is_server_error or status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT}:
        raise ProviderUnavailable(f"Stripe answered {status}", status=status)
    if not answer.is_success:
        raise ProviderRefused(f"Stripe refuses the request for its events ({status})", status=status)


def _seconds(moment: datetime) -> str:
    """Whole seconds, rounded up: `start <= created < end` then means the same for whole and broken bounds."""
    whole = int(moment.timestamp())
    return str(whole if datetime.fromtimestamp(whole, UTC) == moment else whole + 1)
