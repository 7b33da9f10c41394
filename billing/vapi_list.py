"""Reads Vapi's list of calls completely, although it has neither pages nor a cursor (`GET /call`).

A window of time is asked for as a whole; if the answer is as long as its limit allows, it may have been cut, so the
window is halved and both halves are asked for. Nothing relies on the order of rows, and windows are independent.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

import httpx
import msgspec

from billing.errors import PermanentError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.process import NotConfigured
from billing.settings import Settings
from billing.vapi import ListedCall, UnreadableRow, read_page

PAGE_SIZE = 100
"""Vapi's default: 4 MB of full calls. It allows 1000, and has timed out on large pages."""
MAX_PAGE_SIZE = 1000
MILLISECOND = timedelta(milliseconds=1)

Row = ListedCall | UnreadableRow
Clock = Literal["createdAt", "updatedAt"]


class TooManyCallsAtOnce(PermanentError):
    """More calls in one millisecond than one answer can hold: the list cannot be read completely."""


@asynccontextmanager
async def open_vapi(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client with our key.

    Raises:
        NotConfigured: there is no key.
    """
    if settings.vapi_api_key is None:
        raise NotConfigured("VAPI_API_KEY is not set: the list of calls needs the private key of your Vapi account")
    headers = {"Authorization": f"Bearer {settings.vapi_api_key.get_secret_value()}"}
    limits = httpx.Limits(max_connections=8)
    async with httpx.AsyncClient(
        base_url=settings.vapi_base_url, headers=headers, timeout=httpx.Timeout(60, connect=10), limits=limits
    ) as client:
        yield client


async def list_window(client: httpx.AsyncClient, clock: Clock, start: datetime, end: datetime) -> list[Row]:
    """Every call with `start <= clock < end`; both on whole milliseconds.

    Raises:
        ProviderRefused: wrong key, or a request that Vapi does not accept.
        RateLimited, ProviderUnavailable: worth another try.
        TooManyCallsAtOnce: a single millisecond that is still full at Vapi's maximum.
    """
    rows = await _fetch(client, clock, start, end, PAGE_SIZE)
    if len(rows) < PAGE_SIZE:
        return rows
    if end - start > MILLISECOND:
        middle = start + (end - start) // 2 // MILLISECOND * MILLISECOND
        halves = await asyncio.gather(
            list_window(client, clock, start, middle), list_window(client, clock, middle, end)
        )
        return [row for half in halves for row in half]
    rows = await _fetch(client, clock, start, end, MAX_PAGE_SIZE)
    if len(rows) == MAX_PAGE_SIZE:
        raise TooManyCallsAtOnce(
            f"{MAX_PAGE_SIZE} or more calls have {clock} {_stamp(start)}: Vapi's list cannot show them all. "
            "Ask Vapi's support for an export of that millisecond.",
            at=_stamp(start),
        )
    return rows


async def _fetch(client: httpx.AsyncClient, clock: Clock, start: datetime, end: datetime, limit: int) -> list[Row]:
    bounds: dict[str, str | int] = {f"{clock}Ge": _stamp(start), f"{clock}Lt": _stamp(end), "limit": limit}
    try:
        answer = await client.get("/call", params=bounds)
    except httpx.RequestError as error:
        raise ProviderUnavailable(f"Vapi did not answer ({type(error).__name__})") from error
    _require_success(answer)
    try:
        return read_page(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderUnavailable(f"Vapi answered 200 with something that is no list: {error}") from error


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
        raise RateLimited("Vapi asks us to slow down (429)", retry_after=answer.headers.get("retry-after"))
    if answer.is_server_error or status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT}:
        raise ProviderUnavailable(f"Vapi answered {status}", status=status)
    if not answer.is_success:
        raise ProviderRefused(f"Vapi refuses the request for its calls ({status})", status=status)


def floor_to_millisecond(moment: datetime) -> datetime:
    """Vapi shows whole milliseconds; half-open windows on them are right whatever precision it keeps.

    A plain datetime in UTC, whatever subclass came in: Prefect's own do arithmetic of another kind.
    """
    return datetime.fromisoformat(moment.astimezone(UTC).isoformat(timespec="milliseconds"))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
