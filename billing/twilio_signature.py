"""Does a status callback come from Twilio? Pure checks on raw bytes; what they cost is bounded for everybody.

Twilio signs the address that it calls and all parameters of the form. No time is signed, so a delivery that comes
again is recognized by its key alone. https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

import base64
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations, product
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

from billing.errors import InvalidSignature
from billing.signatures import raw_header

MAX_SIGNED_FIELDS: Final = 200
"""Of Twilio's forms, which have about ten: nobody makes us sort a million."""
MAX_FORM_BYTES: Final = 8_192
"""Of a form: a callback tells a status in less than 1 KB, and does not repeat the message."""
MAX_UNNAMED: Final = 20
"""Secrets that say not whose they are, and so are all tried."""
MAX_SORTED_BACK: Final = 4
"""Parameters of a query of which every order is tried."""
MAX_TRIED: Final = 200
MAX_HASHED_BYTES: Final = 400_000
"""Signatures, and bytes under them, that are reckoned for one request: half a millisecond."""

ALGORITHMS: Final = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_OWNED = re.compile(r"([A-Za-z0-9_-]+):(.+)")


@dataclass(frozen=True)
class TwilioSecrets:
    """What Twilio signs with, by whose it is."""

    unnamed: tuple[str, ...] = ()
    """The account's own, the first is asked with; and, as few as they are, those of anybody else."""
    owned: Mapping[str, tuple[str, ...]] | None = None
    """Of an account by its SID, of a shared key by its id."""

    @classmethod
    def read(cls, entries: Iterable[str]) -> Self:
        """Each entry is a secret, or `SID:secret`.

        Raises:
            ValueError: more of them are without a SID than could all be tried.
        """
        unnamed: list[str] = []
        owned: dict[str, tuple[str, ...]] = {}
        for entry in filter(None, entries):
            if match := _OWNED.fullmatch(entry):
                owner, secret = match.groups()
                owned[owner] = (*owned.get(owner, ()), secret)
            else:
                unnamed.append(entry)
        if len(unnamed) > MAX_UNNAMED:
            raise ValueError(
                f"TWILIO_AUTH_TOKEN holds {len(unnamed)} tokens that do not say whose they are, and {MAX_UNNAMED} at"
                " most can be tried for each callback: write those of subaccounts as AC…:token"
            )
        return cls(tuple(unnamed), owned)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.unnamed or self.owned)

    def of(self, account_sid: str) -> tuple[str, ...]:
        """The tokens of this account: those in its name, else all that are in nobody's."""
        return (self.owned or {}).get(account_sid) or self.unnamed

    def of_key(self, key: str) -> tuple[str, ...]:
        """The secrets of this shared key."""
        return (self.owned or {}).get(key, ())


def verify_twilio(
    body: bytes, headers: Mapping[str, str], secrets: TwilioSecrets, public_urls: Sequence[str], target: str
) -> None:
    """Check `X-Twilio-Signature`, a Base64 HMAC of the public URL and all parameters of the form.

    `public_urls` as `twilio_urls` makes them; `target` is the request's path and query string, as it came. The token
    is that of the form's `AccountSid`, or, where a webhook rule signs, the shared key that the request names
    (https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys).

    Raises:
        InvalidSignature: missing, malformed, for another URL or form, or by another secret.
    """
    sent = read_twilio_signature(headers, public_urls)
    pairs = _form(body)
    keys, algorithm = _signer(
        headers, secrets, next((content for name, content in pairs if name == "AccountSid"), "")
    )
    parameters = "".join(name + content for name, content in pairs)
    urls = [*public_urls, *_with_port_of_host(public_urls[0], headers.get("host", ""))]
    signed = product(_spellings(target), dict.fromkeys(urls), keys)
    matches = [
        hmac.compare_digest(_signature(key, url + spelt + parameters, algorithm), sent)
        for spelt, url, key in islice(signed, min(MAX_TRIED, MAX_HASHED_BYTES // (len(parameters) + len(target) + 1)))
    ]
    if not any(matches):
        raise InvalidSignature("the X-Twilio-Signature header does not match: check TWILIO_AUTH_TOKEN and PUBLIC_URL")


def read_twilio_signature(headers: Mapping[str, str], public_urls: Sequence[str]) -> bytes:
    """The signature as it came.

    Raises:
        InvalidSignature: missing, or there is no URL that it could be for.
    """
    if not public_urls:
        raise InvalidSignature("PUBLIC_URL is not set: Twilio signs the URL that it calls, for example https://HOST")
    sent = raw_header(headers.get("x-twilio-signature", ""))
    if not sent:
        raise InvalidSignature("the X-Twilio-Signature header is missing")
    return sent


def twilio_urls(public_url: str | None) -> list[str]:
    """How Twilio may write where the receiver is: as it is set, without its port, and with the scheme's usual one.

    Twilio's own library tries a port and none as well, since what signs there is inconsistent about it.
    """
    if not public_url:
        return []
    base = public_url.rstrip("/")
    parts = urlsplit(base)
    ports = {parts.port, None, *({DEFAULT_PORTS.get(parts.scheme)} if parts.port is None else ())}
    return [*dict.fromkeys([base, *(_at_port(parts, port) for port in sorted(ports, key=str))])]


def _at_port(parts: SplitResult, port: int | None) -> str:
    host = parts.netloc.removesuffix(f":{parts.port}")
    return parts._replace(netloc=host if port is None else f"{host}:{port}").geturl()


def _with_port_of_host(public_url: str, host: str) -> list[str]:
    """With the port that the sender says to have called, if it called our name."""
    parts = urlsplit(public_url)
    name, _, port = host.rpartition(":")
    if name.lower() != (parts.hostname or "") or re.fullmatch(r"[0-9]{1,5}", port) is None:
        return []
    return [_at_port(parts, int(port))]


def _spellings(target: str) -> Iterator[str]:
    """As it came, sorted, and in any other order: Twilio may sign a query as it is written and call it sorted."""
    yield target
    path, _, query = target.partition("?")
    parameters = query.split("&")
    if len(parameters) > 1:
        yield f"{path}?{'&'.join(sorted(parameters))}"
    if len(parameters) <= MAX_SORTED_BACK:
        yield from (f"{path}?{'&'.join(order)}" for order in islice(permutations(parameters), 1, None))


def _signer(headers: Mapping[str, str], secrets: TwilioSecrets, account_sid: str) -> tuple[tuple[str, ...], str]:
    """The secrets that may have signed, and how: without a word about it, the account's token by HMAC-SHA1."""
    told = headers.get("x-twilio-webhooks-signature-settings", "").replace(" ", "")
    settings = dict(part.partition("=")[::2] for part in told.split(",") if "=" in part)
    algorithm = ALGORITHMS.get(settings.get("algorithm", "HMAC_SHA1").upper())
    keys = secrets.of_key(settings["key"]) if "key" in settings else secrets.of(account_sid)
    if algorithm is None:
        raise InvalidSignature("the X-Twilio-Webhooks-Signature-Settings header names an algorithm not known here")
    if not keys:
        raise InvalidSignature(
            "TWILIO_AUTH_TOKEN holds no secret of the account or shared key that signed: add it as SID:secret"
        )
    return keys, algorithm


def _signature(key: str, text: str, algorithm: str) -> bytes:
    return base64.b64encode(hmac.digest(key.encode(), text.encode("utf-8", "replace"), algorithm))


def _form(body: bytes) -> list[tuple[str, str]]:
    """Names and values, sorted; of a repeated name each value once."""
    try:
        pairs = set(
            parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_SIGNED_FIELDS)
        )
    except ValueError:
        raise InvalidSignature("the form has more fields than Twilio sends") from None
    return sorted(pairs)
