"""`POST /webhooks/{provider}`: check the signature on the raw bytes, store, and only then say "got it".

Until its body is there and verified, a request comes from a stranger: what the headers alone disprove is not read,
and what strangers may make us hold is bounded.
"""

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
    read_stripe_signature,
    read_vapi_signature,
    verify_stripe,
    verify_vapi_bearer,
    verify_vapi_hmac,
    verify_vapi_secret,
)
from billing.twilio_signature import MAX_FORM_BYTES, TwilioSecrets, read_twilio_signature, twilio_urls, verify_twilio
from receiver.inbox_writer import InboxWriter, StoreUnavailable

log = logging.getLogger("billing.receiver")

RETRY_AFTER = {"Retry-After": "5"}
HANG_UP = {"Connection": "close"}
"""For a sender of whose body the rest is not wanted."""

MAX_READING_BYTES = 64_000_000
"""Of bodies that are still coming in, for each provider, so that strangers on one route do not crowd out another.
Thrice this, the first bytes of all requests, and what waits for the database stay within 768 MB."""

UNCOUNTED_BYTES = 32_768
"""The first bytes of each body are taken from everybody, so that small webhooks get through whatever strangers hold.
The limit of requests at once (`Limits.requests`) bounds them: 131 MB."""

CheckHeaders = Callable[[Request], None]
Verify = Callable[[bytes, Request], None]
VerifyByHeaders = Callable[[bytes, Mapping[str, str], Sequence[str], float], None]


class Crowded(Exception):
    """Too much is being read; the sender should come again."""


@dataclass(frozen=True)
class Provider:
    """How one provider proves itself and what it may send."""

    name: str
    check_headers: CheckHeaders
    """Refuses what cannot be genuine whatever its body; never the last word."""
    verify: Verify
    max_bytes: int
    read_seconds: float
    """How long a sender may take for its body."""
    format: str = "JSON"
    """What its bodies are, as a refusal says it."""


def providers(settings: Settings) -> list[Provider]:
    """The providers that send us webhooks. One without secrets is refused everything."""
    read_seconds = settings.webhook_read_timeout.total_seconds()
    return [
        Provider("stripe", *_stripe(settings), settings.webhook_max_bytes, read_seconds),
        Provider("vapi", *_vapi(settings), settings.vapi_webhook_max_bytes, read_seconds),
        Provider(
            "twilio", *_twilio(settings), min(settings.webhook_max_bytes, MAX_FORM_BYTES), read_seconds, "a form"
        ),
    ]


def _stripe(settings: Settings) -> tuple[CheckHeaders, Verify]:
    secrets = _plain(settings.stripe_webhook_secrets)

    def check_headers(request: Request) -> None:
        _require(secrets)
        read_stripe_signature(request.headers, time.time())

    return check_headers, lambda body, request: verify_stripe(body, request.headers, secrets, time.time())


def _vapi(settings: Settings) -> tuple[CheckHeaders, Verify]:
    """A credential in a header is known or not before the body is there; a signature is not."""
    secrets, plan = _plain(settings.vapi_webhook_secrets), settings.vapi_hmac_plan
    checks: dict[str, VerifyByHeaders] = {
        "bearer": verify_vapi_bearer,
        "secret": verify_vapi_secret,
        "hmac": partial(verify_vapi_hmac, plan=plan),
    }
    check = checks[settings.vapi_webhook_auth]

    def verify(body: bytes, request: Request) -> None:
        check(body, request.headers, secrets, time.time())

    def check_signature_header(request: Request) -> None:
        _require(secrets)
        read_vapi_signature(request.headers, time.time(), plan)

    by_signature = settings.vapi_webhook_auth == "hmac"
    return check_signature_header if by_signature else partial(verify, b""), verify


def _twilio(settings: Settings) -> tuple[CheckHeaders, Verify]:
    """A proof that covers the address to which Twilio sends, which only the settings know."""
    secrets = settings.twilio_secrets
    urls = twilio_urls(settings.public_url)
    if secrets and not urls:
        log.warning(
            "webhook.not_configured provider=twilio: TWILIO_AUTH_TOKEN is set and PUBLIC_URL is not, so every status "
            "of a message is refused: set PUBLIC_URL to where Twilio reaches the receiver, for example https://HOST"
        )

    def check_headers(request: Request) -> None:
        _require(secrets)
        read_twilio_signature(request.headers, urls)

    def verify(body: bytes, request: Request) -> None:
        query = request.scope["query_string"].decode("latin-1")
        target = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        verify_twilio(body, request.headers, secrets, urls, target)

    return check_headers, verify


def _plain(secrets: Sequence[SecretStr]) -> list[str]:
    return [*filter(None, (secret.get_secret_value() for secret in secrets))]


def _require(secrets: Sequence[str] | TwilioSecrets) -> None:
    if not secrets:
        raise InvalidSignature("no secret of this provider is set")


class WebhookEndpoint:
    """The ASGI application behind one provider's route."""

    def __init__(self, provider: Provider, writer: InboxWriter) -> None:
        self._provider = provider
        self._identify: Callable[[bytes], Delivery] = IDENTIFY[provider.name]
        self._writer = writer
        self._reading_bytes = 0
        self._max_reading_bytes = max(MAX_READING_BYTES, provider.max_bytes)  # one alone always fits

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
            self._provider.check_headers(request)
            async with asyncio.timeout(self._provider.read_seconds):
                body = await self._read(request)
            if body is None:
                return _refusal(413, "too large", HANG_UP)
            self._provider.verify(body, request)
        except InvalidSignature as error:
            log.warning("webhook.refused provider=%s reason=%s", self._provider.name, error)
            return _refusal(401, "signature refused")
        except TimeoutError:
            return _refusal(408, "too slow", HANG_UP)
        except Crowded:
            log.warning("webhook.crowded provider=%s", self._provider.name)
            return _refusal(503, "try again later", {**RETRY_AFTER, **HANG_UP})
        return await self._store(body)

    async def _read(self, request: Request) -> bytes | None:
        """The body, or None as soon as it is known to be too large.

        Raises:
            Crowded: it does not fit beside what others of this provider are sending.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._provider.max_bytes:
            return None
        body, counted = bytearray(), 0  # not a list: the overhead of tiny chunks would go uncounted
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._provider.max_bytes:
                    return None
                more = max(0, len(body) - UNCOUNTED_BYTES) - counted
                if self._reading_bytes + more > self._max_reading_bytes:
                    raise Crowded
                self._reading_bytes += more
                counted += more
        finally:
            self._reading_bytes -= counted
        return bytes(body)

    async def _store(self, body: bytes) -> Response:
        try:
            await self._writer.store(self._identify(body))
        except UnreadablePayload:
            log.warning("webhook.unreadable provider=%s bytes=%d", self._provider.name, len(body))
            return _refusal(400, f"not {self._provider.format}")
        except StoreUnavailable:
            return _refusal(503, "try again later", RETRY_AFTER)
        return Response(b'{"received": true}', media_type="application/json")


def _refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> Response:
    body = f'{{"error": "{error}"}}'.encode()
    return Response(body, status, headers=headers, media_type="application/json")
