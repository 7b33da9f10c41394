"""Does a webhook come from its provider? Pure checks on raw bytes; the caller brings the clock.

`verify_…` decides. `read_…` is its first half, which needs the headers alone: what it refuses is not worth reading.
Twilio's are in `twilio_signature`.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

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
    stamp, signatures = read_stripe_signature(headers, now)
    signed = stamp.encode() + b"." + body
    for secret in filter(None, secrets):
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
        if any(hmac.compare_digest(expected, signature) for signature in signatures):
            return
    raise InvalidSignature("no signature in the Stripe-Signature header matches")


def read_stripe_signature(headers: Mapping[str, str], now: float) -> tuple[str, list[bytes]]:
    """The timestamp and the signatures of the header.

    Raises:
        InvalidSignature: missing, malformed, too old or too far ahead.
    """
    pairs = [part.strip().partition("=")[::2] for part in headers.get("stripe-signature", "").split(",")]
    stamps = [content for key, content in pairs if key == "t"]
    signatures = [raw_header(content) for key, content in pairs if key == "v1"]
    if len(stamps) != 1 or not _is_recent(stamps[0], now):
        raise InvalidSignature("the Stripe-Signature header has no timestamp within the tolerance")
    if not signatures:
        raise InvalidSignature("the Stripe-Signature header has no v1 signature")
    return stamps[0], signatures


def verify_vapi_bearer(_body: bytes, headers: Mapping[str, str], secrets: Sequence[str], _now: float) -> None:
    """Check `Authorization: Bearer <token>`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _is_any(raw_header(token.strip()), secrets):
        raise InvalidSignature("the Authorization header holds no known bearer token")


def verify_vapi_secret(_body: bytes, headers: Mapping[str, str], secrets: Sequence[str], _now: float) -> None:
    """Check `X-Vapi-Secret`. Vapi sends it empty when no credential is attached, so empty never matches."""
    if not _is_any(raw_header(headers.get("x-vapi-secret", "")), secrets):
        raise InvalidSignature("the X-Vapi-Secret header holds no known secret")


@dataclass(frozen=True, slots=True)
class HmacPlan:
    """How a credential of Vapi's signs; the defaults are Vapi's own."""

    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    signature_header: str = "x-signature"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    payload_format: str = "{timestamp}.{body}"
    timestamp_header: str = "x-timestamp"
    timestamp_unit: Literal["any", "seconds", "milliseconds"] = "any"
    """The unit is not documented; `any` tells seconds and milliseconds apart by their length."""
    secret_is_base64: bool = False

    def __post_init__(self) -> None:
        """Refuse a format that leaves the body unsigned or names what is not known here.

        Raises:
            ValueError: with what a format may hold.
        """
        placeholders = re.findall(r"\{[^{}]*\}", self.payload_format)
        if placeholders.count("{body}") != 1 or not {"{body}", "{timestamp}"}.issuperset(placeholders):
            raise ValueError(
                "the payload format must hold {body} once, may hold {timestamp}, and nothing else in braces"
            )

    @property
    def has_timestamp(self) -> bool:
        """Whether the time is signed, so that it can be trusted."""
        return "{timestamp}" in self.payload_format

    def is_milliseconds(self, timestamp: str) -> bool:
        """In which unit to read this one."""
        by_length = len(timestamp) == len("1700000000000")
        return by_length if self.timestamp_unit == "any" else self.timestamp_unit == "milliseconds"

    def key(self, secret: str) -> bytes:
        """The bytes that the secret stands for.

        Raises:
            ValueError: it is not Base64, or stands for nothing, although the plan says so.
        """
        if not self.secret_is_base64:
            return secret.encode()
        key = base64.b64decode(secret, validate=True)
        if not key:
            raise ValueError("the secret is empty")
        return key

    def sign(self, body: bytes, timestamp: str, key: bytes) -> bytes:
        """The header's content for this body; `timestamp` as it stands in its own header."""
        before, after = self.payload_format.split("{body}")
        signed = b"".join(
            [
                before.replace("{timestamp}", timestamp).encode(),
                body,
                after.replace("{timestamp}", timestamp).encode(),
            ]
        )
        digest = hmac.new(key, signed, self.algorithm).digest()
        return self.prefix.encode() + (digest.hex().encode() if self.encoding == "hex" else base64.b64encode(digest))


VAPI_DEFAULT_PLAN = HmacPlan()


def verify_vapi_hmac(
    body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float, plan: HmacPlan = VAPI_DEFAULT_PLAN
) -> None:
    """Check the signature of a credential's HMAC plan, and the time if that is signed as well."""
    stamp, sent = read_vapi_signature(headers, now, plan)
    for secret in filter(None, secrets):
        if hmac.compare_digest(plan.sign(body, stamp, plan.key(secret)), sent):
            return
    raise InvalidSignature("the signature's header matches no secret")


def read_vapi_signature(headers: Mapping[str, str], now: float, plan: HmacPlan) -> tuple[str, bytes]:
    """The timestamp, empty if none is signed, and the signature.

    Raises:
        InvalidSignature: one of them is missing, or the time is outside the tolerance.
    """
    stamp = headers.get(plan.timestamp_header, "") if plan.has_timestamp else ""
    if plan.has_timestamp and not _is_recent(stamp, now, milliseconds=plan.is_milliseconds(stamp)):
        raise InvalidSignature("the timestamp's header is missing or outside the tolerance")
    sent = raw_header(headers.get(plan.signature_header, ""))
    if not sent:
        raise InvalidSignature("the signature's header is missing")
    return stamp, sent


def _is_recent(stamp: str, now: float, *, milliseconds: bool = False) -> bool:
    if re.fullmatch(r"[0-9]{1,15}", stamp) is None:
        return False
    seconds = int(stamp) / 1000 if milliseconds else int(stamp)
    return abs(now - seconds) <= TOLERANCE_SECONDS


def _is_any(sent: bytes, secrets: Sequence[str]) -> bool:
    matches = [hmac.compare_digest(sent, secret.encode()) for secret in secrets if secret]
    return any(matches)


def raw_header(header: str) -> bytes:
    """The bytes that came, which the server has decoded as Latin-1."""
    return header.encode("latin-1", "backslashreplace")
