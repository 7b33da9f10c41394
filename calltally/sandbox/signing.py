"""How the providers prove that a delivery is theirs.

Each class turns (raw body, Unix seconds) into the headers of one attempt.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol


class Signer(Protocol):
    """Makes the authentication headers of one delivery attempt."""

    def headers(self, body: bytes, at_seconds: float) -> dict[str, str]:
        """Return the headers for this body sent at this time."""
        ...


@dataclass(frozen=True, slots=True)
class VapiBearer:
    """A bearer token, the simplest of Vapi's credentials."""

    kind: ClassVar[str] = "bearer"

    secret: str

    def headers(self, body: bytes, at_seconds: float) -> dict[str, str]:  # noqa: ARG002  # same for all
        """Return the same header for every body."""
        return {"Authorization": f"Bearer {self.secret}"}


@dataclass(frozen=True, slots=True)
class VapiSecret:
    """The older `X-Vapi-Secret`; Vapi sends it empty when no such credential is attached."""

    kind: ClassVar[str] = "secret"

    secret: str

    def headers(self, body: bytes, at_seconds: float) -> dict[str, str]:  # noqa: ARG002  # same for all
        """Return the same header for every body."""
        return {"X-Vapi-Secret": self.secret}


@dataclass(frozen=True, slots=True)
class VapiHmac:
    """Vapi's default HMAC plan: sha256 in hex over `{timestamp}.{body}`, without prefix.

    The unit of the timestamp is not documented, so both can be sent.
    """

    kind: ClassVar[str] = "hmac"

    secret: str
    timestamp_unit: Literal["s", "ms"] = "s"

    def headers(self, body: bytes, at_seconds: float) -> dict[str, str]:
        """Return signature and timestamp."""
        timestamp = str(int(at_seconds * (1000 if self.timestamp_unit == "ms" else 1)))
        signature = _hex_hmac(self.secret, timestamp.encode() + b"." + body)
        return {"x-signature": signature, "x-timestamp": timestamp}


VapiSigner = VapiBearer | VapiSecret | VapiHmac


@dataclass(frozen=True, slots=True)
class StripeSignature:
    """Stripe's header: one `v1` per valid secret, two of them while a secret is being rolled."""

    secrets: tuple[str, ...]

    def headers(self, body: bytes, at_seconds: float) -> dict[str, str]:
        """Return the `Stripe-Signature` header, keyed with the whole `whsec_…` text."""
        timestamp = str(int(at_seconds))
        signed = timestamp.encode() + b"." + body
        parts = [f"t={timestamp}", *(f"v1={_hex_hmac(secret, signed)}" for secret in self.secrets)]
        return {"Stripe-Signature": ",".join(parts)}


def forged_stripe_signature() -> StripeSignature:
    """Return a signer as an attacker has it: well formed, keyed with a guess."""
    return StripeSignature(("whsec_guessed_by_someone_else",))


def _hex_hmac(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
