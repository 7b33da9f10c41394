"""Asking Twilio's API about messages: one by its sid, or a day's list.

https://www.twilio.com/docs/messaging/api/message-resource
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date

import httpx
import msgspec

from billing.errors import ProviderRefused, ProviderUnavailable, RateLimited, UnreadablePayload
from billing.process import NotConfigured
from billing.settings import Settings
from billing.twilio import MessagePage, ToldMessage, read_message, read_page

API_VERSION = "2010-04-01"
NO_SUCH_RESOURCE = 20404
"""Twilio's own code: whatever else answers 404 is not Twilio. https://www.twilio.com/docs/api/errors/20404"""
PAGE_SIZE = 1000
"""The most that the list gives at once."""


class _Error(msgspec.Struct, frozen=True):
    code: int | None = None


_error = msgspec.json.Decoder(_Error)


@asynccontextmanager
async def open_twilio(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client with our account's token.

    Raises:
        NotConfigured: there is no account or token.
    """
    tokens = settings.twilio_secrets.of(settings.twilio_account_sid or "")
    if settings.twilio_account_sid is None or not tokens:
        raise NotConfigured(
            "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN are not both set: messages that have come to no end are asked "
            "for at Twilio; both are in its console, under Account Info"
        )
    async with httpx.AsyncClient(
        base_url=settings.twilio_base_url,
        auth=(settings.twilio_account_sid, tokens[0]),
        timeout=httpx.Timeout(30, connect=10),
        limits=httpx.Limits(max_connections=4),
    ) as client:
        yield client


async def fetch_message(client: httpx.AsyncClient, account_sid: str, sid: str) -> ToldMessage | None:
    """The message as it is now; None if Twilio says that it has no such message (404 with its code 20404).

    Raises:
        ProviderRefused: wrong token, or a request that Twilio does not accept; `status` is among its facts.
        RateLimited, ProviderUnavailable: worth another try.
        UnreadablePayload: an answer that is no message.
    """
    answer = await _get(client, f"/{API_VERSION}/Accounts/{account_sid}/Messages/{sid}.json")
    if answer.status_code == httpx.codes.NOT_FOUND and _code(answer.content) == NO_SUCH_RESOURCE:
        return None
    _require_success(answer.status_code, answer.headers)
    told = read_message(answer.content)
    if told.sid != sid:
        raise UnreadablePayload("Twilio answered with another message")
    return told


def list_path(account_sid: str, day: date) -> str:
    """Where the list of an account's messages of a day (GMT, by when they were sent) begins."""
    return f"/{API_VERSION}/Accounts/{account_sid}/Messages.json?DateSent={day.isoformat()}&PageSize={PAGE_SIZE}"


async def fetch_page(client: httpx.AsyncClient, path: str) -> MessagePage:
    """A page of the list, as `list_path` or the page before it says.

    Raises:
        As fetch_message.
    """
    if not path.startswith(f"/{API_VERSION}/"):
        raise UnreadablePayload("Twilio's list goes on at an address that is not in its API")
    answer = await _get(client, path)
    _require_success(answer.status_code, answer.headers)
    return read_page(answer.content)


async def _get(client: httpx.AsyncClient, path: str) -> httpx.Response:
    try:
        return await client.get(path)
    except httpx.RequestError as error:
        raise ProviderUnavailable(f"Twilio did not answer ({type(error).__name__})") from error


def _code(body: bytes) -> int | None:
    try:
        return _error.decode(body).code
    except msgspec.MsgspecError:
        return None


def _require_success(status: int, headers: Mapping[str, str]) -> None:
    """Bodies of errors are not for logs."""
    if status == httpx.codes.UNAUTHORIZED:
        raise ProviderRefused(
            f"Twilio refuses TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN ({status}). Set them to the account's SID and "
            "its primary auth token, which comes first if there are two: Twilio console, Account Info",
            status=status,
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited("Twilio asks us to slow down (429)", retry_after=headers.get("retry-after"))
    if status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT} or httpx.codes.is_server_error(status):
        raise ProviderUnavailable(f"Twilio answered {status}", status=status)
    if not httpx.codes.is_success(status):
        raise ProviderRefused(
            f"Twilio refuses the request for a message ({status}): check TWILIO_BASE_URL and the account",
            status=status,
        )
