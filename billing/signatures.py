"""Does a webhook come from its provider? Pure checks on raw bytes; the caller brings the clock."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from billing.errors import InvalidSignature

TOLERANCE_SECONDS = 300
"""How far a timestamp may lie in the past or the future; Stripe's own default."""


def verify_stripe(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> None:
    """Check `Stripe-Signature: t=<unix>,v1=<hex>[,v1=<hex>…]`, an HMAC-SHA256 of `<t>.<body>`.

    `now` in Unix seconds. One matching signature suffices, since Stripe signs with both secrets during rotation.
    The future is bounded too: Stripe's own library accepts any time ahead (https://docs.stripe.com/webhooks).

    Raises:
        InvalidSignature: missing, malformed, too old, too far ahead, or by another secret.
    """
    pairs = [part.strip().partition("=")[::2] for part in headers.get("stripe-signature", "").split(",")]
    stamps = [content for key, content in pairs if key == "t"]
    signatures = [content.encode() for key, content in pairs if key == "v1"]
    if len(stamps) != 1 or not _is_recent(stamps[0], now):
        raise InvalidSignature("the Stripe-Signature header has no timestamp within the tolerance")
    signed = stamps[0].encode() + b"." + body
    for secret in filter(None, secrets):
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
        if any(hmac.compare_digest(expected, signature) for signature in signatures):
            return
    raise InvalidSignature("no signature in the Stripe-Signature header matches")


def verify_vapi_bearer(_body: bytes, headers: Mapping[str, str], secrets: Sequence[str], _now: float) -> None:
    """Check `Authorization: Bearer <token>`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _is_any(token.strip(), secrets):
        raise InvalidSignature("the Authorization header holds no known bearer token")


def verify_vapi_secret(_body: bytes, headers: Mapping[str, str], secrets: Sequence[str], _now: float) -> None:
    """Check `X-Vapi-Secret`. Vapi sends it empty when no credential is attached, so empty never matches."""
    if not _is_any(headers.get("x-vapi-secret", ""), secrets):
        raise InvalidSignature("the X-Vapi-Secret header holds no known secret")


def verify_vapi_hmac(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> None:
    """Check Vapi's default HMAC plan: `X-Signature` is the hex HMAC-SHA256 of `<X-Timestamp>.<body>`.

    The unit of the timestamp is not documented, so seconds and milliseconds are both read.
    """
    stamp = headers.get("x-timestamp", "")
    if not _is_recent(stamp[:-3] if len(stamp) == len("1700000000000") else stamp, now):
        raise InvalidSignature("the X-Timestamp header is missing or outside the tolerance")
    signature = headers.get("x-signature", "").encode()
    for secret in filter(None, secrets):
        expected = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(expected.encode(), signature):
            return
    raise InvalidSignature("the X-Signature header matches no secret")


def _is_recent(stamp: str, now: float) -> bool:
    return re.fullmatch(r"[0-9]{1,12}", stamp, re.ASCII) is not None and abs(now - int(stamp)) <= TOLERANCE_SECONDS


def _is_any(sent: str, secrets: Sequence[str]) -> bool:
    matches = [hmac.compare_digest(sent.encode(), secret.encode()) for secret in secrets if secret]
    return any(matches)
