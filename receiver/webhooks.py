"""`POST /webhooks/{provider}`: check the signature on the raw bytes, store, and only then say "got it"."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from billing.deliveries import IDENTIFY, Delivery
from billing.errors import InvalidSignature, UnreadablePayload
from billing.settings import Settings
from billing.signatures import verify_stripe, verify_vapi_bearer, verify_vapi_hmac, verify_vapi_secret
from receiver.inbox_writer import InboxWriter, StoreUnavailable

log = logging.getLogger("billing.receiver")

RETRY_AFTER_SECONDS = "5"

Verify = Callable[[bytes, Mapping[str, str], Sequence[str], float], None]

VAPI_AUTH: dict[str, Verify] = {
    "bearer": verify_vapi_bearer,
    "secret": verify_vapi_secret,
    "hmac": verify_vapi_hmac,
}


@dataclass(frozen=True)
class Provider:
    """How one provider proves itself and what it may send."""

    name: str
    verify: Verify
    secrets: Sequence[str]
    max_bytes: int


def providers(settings: Settings) -> list[Provider]:
    """The providers that send us webhooks. One without secrets is refused everything."""
    stripe_secrets = [secret.get_secret_value() for secret in settings.stripe_webhook_secrets]
    vapi_secrets = [secret.get_secret_value() for secret in settings.vapi_webhook_secrets]
    return [
        Provider("stripe", verify_stripe, stripe_secrets, settings.webhook_max_bytes),
        Provider("vapi", VAPI_AUTH[settings.vapi_webhook_auth], vapi_secrets, settings.vapi_webhook_max_bytes),
    ]


class WebhookEndpoint:
    """The ASGI application behind one provider's route."""

    def __init__(self, provider: Provider, writer: InboxWriter) -> None:
        self._provider = provider
        self._identify: Callable[[bytes], Delivery] = IDENTIFY[provider.name]
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 200 once stored, first time or not; 401, 400, 413 or 503 otherwise, and say no more than that."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return  # nobody is left to hear the answer, and nothing was stored
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        body = await _read(request, self._provider.max_bytes)
        if body is None:
            return _refusal(413, "too large")
        try:
            self._provider.verify(body, request.headers, self._provider.secrets, time.time())
            delivery = self._identify(body)
            await self._writer.store(delivery)
        except InvalidSignature as error:
            log.warning("webhook.refused provider=%s reason=%s", self._provider.name, error)
            return _refusal(401, "signature refused")
        except UnreadablePayload:
            log.warning("webhook.unreadable provider=%s bytes=%d", self._provider.name, len(body))
            return _refusal(400, "not JSON")
        except StoreUnavailable:
            return _refusal(503, "try again later", {"Retry-After": RETRY_AFTER_SECONDS})
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
