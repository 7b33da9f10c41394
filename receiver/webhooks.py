"""`POST /webhooks/{provider}`: check the signature on the raw bytes, store, and only then say "got it"."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from billing.deliveries import IDENTIFY, Delivery
from billing.errors import InvalidSignature, UnreadablePayload
from billing.settings import Settings
from billing.signatures import (
    twilio_urls,
    verify_stripe,
    verify_twilio,
    verify_vapi_bearer,
    verify_vapi_hmac,
    verify_vapi_secret,
)
from receiver.inbox_writer import InboxWriter, StoreUnavailable

log = logging.getLogger("billing.receiver")

RETRY_AFTER = {"Retry-After": "5"}
HANG_UP = {"Connection": "close"}
"""For a sender of whose body the rest is not wanted."""

Verify = Callable[[bytes, Request], None]
CheckHeaders = Callable[[bytes, Mapping[str, str], Sequence[str], float], None]


@dataclass(frozen=True)
class Provider:
    """How one provider proves itself and what it may send."""

    name: str
    verify: Verify
    max_bytes: int
    read_seconds: float
    """How long a sender may take for its body."""
    format: str = "JSON"
    """What its bodies are, as a refusal says it."""


def providers(settings: Settings) -> list[Provider]:
    """The providers that send us webhooks. One without secrets is refused everything."""
    check_vapi: dict[str, CheckHeaders] = {
        "bearer": verify_vapi_bearer,
        "secret": verify_vapi_secret,
        "hmac": partial(verify_vapi_hmac, plan=settings.vapi_hmac_plan),
    }
    stripe = _by_headers(verify_stripe, settings.stripe_webhook_secrets)
    vapi = _by_headers(check_vapi[settings.vapi_webhook_auth], settings.vapi_webhook_secrets)
    read_seconds = settings.webhook_read_timeout.total_seconds()
    return [
        Provider("stripe", stripe, settings.webhook_max_bytes, read_seconds),
        Provider("vapi", vapi, settings.vapi_webhook_max_bytes, read_seconds),
        Provider("twilio", _twilio(settings), settings.webhook_max_bytes, read_seconds, "a form"),
    ]


def _by_headers(check: CheckHeaders, secrets: Sequence[SecretStr]) -> Verify:
    """A proof that lies in the headers and is about the body alone."""
    plain = [secret.get_secret_value() for secret in secrets]
    return lambda body, request: check(body, request.headers, plain, time.time())


def _twilio(settings: Settings) -> Verify:
    """A proof that covers the address to which Twilio sends, which only the settings know."""
    secrets = [token.get_secret_value() for token in settings.twilio_auth_token]
    urls = twilio_urls(settings.public_url)
    if secrets and not urls:
        log.warning(
            "webhook.not_configured provider=twilio: TWILIO_AUTH_TOKEN is set and PUBLIC_URL is not, so every status "
            "of a message is refused: set PUBLIC_URL to where Twilio reaches the receiver, for example https://HOST"
        )

    def verify(body: bytes, request: Request) -> None:
        query = request.scope["query_string"].decode("latin-1")
        target = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        verify_twilio(body, request.headers, secrets, urls, target)

    return verify


class WebhookEndpoint:
    """The ASGI application behind one provider's route."""

    def __init__(self, provider: Provider, writer: InboxWriter) -> None:
        self._provider = provider
        self._identify: Callable[[bytes], Delivery] = IDENTIFY[provider.name]
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 200 once stored, first time or not; otherwise 400, 401, 408, 413 or 503, and no more than that."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return  # nobody is left to hear the answer, and nothing was stored
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._provider.read_seconds):
                body = await _read(request, self._provider.max_bytes)
        except TimeoutError:
            return _refusal(408, "too slow", HANG_UP)
        if body is None:
            return _refusal(413, "too large", HANG_UP)
        try:
            self._provider.verify(body, request)
            delivery = self._identify(body)
            await self._writer.store(delivery)
        except InvalidSignature as error:
            log.warning("webhook.refused provider=%s reason=%s", self._provider.name, error)
            return _refusal(401, "signature refused")
        except UnreadablePayload:
            log.warning("webhook.unreadable provider=%s bytes=%d", self._provider.name, len(body))
            return _refusal(400, f"not {self._provider.format}")
        except StoreUnavailable:
            return _refusal(503, "try again later", RETRY_AFTER)
        return Response(b'{"received": true}', media_type="application/json")


async def _read(request: Request, max_bytes: int) -> bytes | None:
    """The body, or None as soon as it is known to be too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> Response:
    body = f'{{"error": "{error}"}}'.encode()
    return Response(body, status, headers=headers, media_type="application/json")
