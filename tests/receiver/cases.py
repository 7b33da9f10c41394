"""Forged and malformed deliveries: what is sent, and the status that it gets."""

import gzip
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from billing.signatures import TOLERANCE_SECONDS
from calltally.sandbox.signing import Signer, VapiBearer, VapiHmac, VapiSecret, forged_stripe_signature
from tests.receiver.conftest import STRIPE, STRIPE_SECRET, VAPI_SECRET, stripe_event, vapi_message

Headers = Mapping[str, str | bytes | None]

MAX_BYTES = 20_000
DEEP = 5_000
EVENT = stripe_event("evt_1")
MESSAGE = vapi_message("call-1")
HMAC = VapiHmac(VAPI_SECRET)


@dataclass(frozen=True)
class Case:
    """One delivery; `headers` are made of the time at which it is sent."""

    status: int
    body: bytes
    headers: Callable[[float], Headers]


def always(status: int, body: bytes, headers: Headers) -> Case:
    """The same headers at any time."""
    return Case(status, body, lambda _now: headers)


def by(signer: Signer, status: int, body: bytes, *, covers: bytes | None = None, age: float = 0) -> Case:
    """Signed `age` seconds ago for this body, or for the one that the signature `covers`."""
    return Case(status, body, lambda now: signer.headers(body if covers is None else covers, now - age))


def stripe_header(write: Callable[[str, str], str]) -> Case:
    """A header written from the right timestamp and signature."""

    def headers(now: float) -> Headers:
        stamp = str(int(now))
        right = hmac.new(STRIPE_SECRET.encode(), stamp.encode() + b"." + EVENT, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": write(stamp, right)}

    return Case(401, EVENT, headers)


def hmac_header(write: Callable[[str, str], Headers]) -> Case:
    """Headers written from the right timestamp and signature."""

    def headers(now: float) -> Headers:
        right = HMAC.headers(MESSAGE, now)
        return write(right["x-timestamp"], right["x-signature"])

    return Case(401, MESSAGE, headers)


UNREADABLE = {
    "empty body": b"",
    "space": b"   ",
    "text": b"hello",
    "form data": b"id=evt_1&type=x",
    "XML": b"<id>evt_1</id>",
    "open object": b'{"id": "evt_1"',
    "open string": b'{"id": "evt_1}',
    "more behind the object": b'{"id": "evt_1", "type": "x", "message": {}} {}',
    "single quotes": b"{'id': 'evt_1'}",
    "comma too many": b'{"id": "evt_1",}',
    "NaN": b'{"id": "evt_1", "type": "x", "n": NaN}',
    "byte order mark": b'\xef\xbb\xbf{"id": "evt_1", "type": "x"}',
    "UTF-16": '{"id": "evt_1"}'.encode("utf-16"),
    "no UTF-8": b'{"id": "\xff", "type": "x", "message": {"type": "\xff"}}',
    "control character": b'{"id": "a\nb", "type": "x", "message": {"type": "a\nb"}}',
    "NUL": b"\x00",
    "gzip": gzip.compress(b'{"id": "evt_1", "type": "x"}'),
    "deep nesting": b"[" * DEEP + b"]" * DEEP,
    "deep nesting in an event": b'{"id":"evt_1","type":"x","message":{},"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
}
TOO_LARGE = b'{"id": "evt_1", "x": "' + b"x" * MAX_BYTES + b'"}'

STRIPE_CASES: dict[str, Case] = {
    "no signature": always(401, EVENT, {}),
    "empty signature": always(401, EVENT, {"Stripe-Signature": ""}),
    "garbage": always(401, EVENT, {"Stripe-Signature": "garbage"}),
    "commas": always(401, EVENT, {"Stripe-Signature": ",,,,"}),
    "bytes beyond ASCII": always(401, EVENT, {"Stripe-Signature": b"t=1,v1=\xff\xfe"}),
    "UTF-8": always(401, EVENT, {"Stripe-Signature": "t=1,v1=ключ".encode()}),
    "long header": always(401, EVENT, {"Stripe-Signature": "t=1" + ",v1=00" * 1_000}),
    "secret itself": always(401, EVENT, {"Stripe-Signature": STRIPE_SECRET}),
    "secret as bearer": always(401, EVENT, {"Authorization": f"Bearer {STRIPE_SECRET}"}),
    "another header": Case(401, EVENT, lambda now: {"X-Signature": STRIPE.headers(EVENT, now)["Stripe-Signature"]}),
    "guessed secret": by(forged_stripe_signature(), 401, EVENT),
    "signature of another body": by(STRIPE, 401, EVENT, covers=b"{}"),
    "one byte changed": by(STRIPE, 401, EVENT.replace(b"evt_1", b"evt_2"), covers=EVENT),
    "a space added": by(STRIPE, 401, EVENT + b" ", covers=EVENT),
    "old": by(STRIPE, 401, EVENT, age=TOLERANCE_SECONDS + 5),
    "a day old": by(STRIPE, 401, EVENT, age=86_400),
    "from the future": by(STRIPE, 401, EVENT, age=-TOLERANCE_SECONDS - 60),
    "a year ahead": by(STRIPE, 401, EVENT, age=-31_536_000),
    "of the year 1970": by(STRIPE, 401, EVENT, age=1e9),
    "no timestamp": stripe_header(lambda t, v: f"v1={v}"),
    "empty timestamp": stripe_header(lambda t, v: f"t=,v1={v}"),
    "another timestamp": stripe_header(lambda t, v: f"t={int(t) + 1},v1={v}"),
    "two timestamps": stripe_header(lambda t, v: f"t={t},t={t},v1={v}"),
    "old and new timestamp": stripe_header(lambda t, v: f"t=1,t={t},v1={v}"),
    "timestamp with a sign": stripe_header(lambda t, v: f"t=+{t},v1={v}"),
    "timestamp with a fraction": stripe_header(lambda t, v: f"t={t}.0,v1={v}"),
    "timestamp in milliseconds": stripe_header(lambda t, v: f"t={t}000,v1={v}"),
    "timestamp without end": stripe_header(lambda t, v: f"t={'9' * 5_000},v1={v}"),
    "timestamp in hexadecimal": stripe_header(lambda t, v: f"t={int(t):#x},v1={v}"),
    "only a timestamp": stripe_header(lambda t, v: f"t={t}"),
    "empty v1": stripe_header(lambda t, v: f"t={t},v1="),
    "truncated v1": stripe_header(lambda t, v: f"t={t},v1={v[:-2]}"),
    "v1 with more": stripe_header(lambda t, v: f"t={t},v1={v}00"),
    "v1 in capitals": stripe_header(lambda t, v: f"t={t},v1={v.upper()}"),
    "v1 of zeros": stripe_header(lambda t, v: f"t={t},v1={'0' * 64}"),
    "v0 only": stripe_header(lambda t, v: f"t={t},v0={v}"),
    "v2 only": stripe_header(lambda t, v: f"t={t},v2={v}"),
    "quoted": stripe_header(lambda t, v: f't="{t}",v1="{v}"'),
    "semicolons": stripe_header(lambda t, v: f"t={t};v1={v}"),
    "as JSON": stripe_header(lambda t, v: f'{{"t":"{t}","v1":"{v}"}}'),
    "signature that is not JSON either": by(forged_stripe_signature(), 401, b"not JSON"),
    "too large and signed": by(STRIPE, 413, TOO_LARGE),
    "too large and not signed": always(401, TOO_LARGE, {}),
    "too large and forged": by(forged_stripe_signature(), 413, TOO_LARGE),
    **{f"signed: {name}": by(STRIPE, 400, body) for name, body in UNREADABLE.items()},
}

BEARER_CASES: dict[str, Case] = {
    "nothing": always(401, MESSAGE, {}),
    "empty": always(401, MESSAGE, {"Authorization": ""}),
    "scheme only": always(401, MESSAGE, {"Authorization": "Bearer"}),
    "scheme and space": always(401, MESSAGE, {"Authorization": "Bearer "}),
    "token only": always(401, MESSAGE, {"Authorization": VAPI_SECRET}),
    "another scheme": always(401, MESSAGE, {"Authorization": f"Basic {VAPI_SECRET}"}),
    "another token": by(VapiBearer("vapi-other"), 401, MESSAGE),
    "truncated token": by(VapiBearer(VAPI_SECRET[:-1]), 401, MESSAGE),
    "token with more": by(VapiBearer(VAPI_SECRET + "x"), 401, MESSAGE),
    "token in capitals": by(VapiBearer(VAPI_SECRET.upper()), 401, MESSAGE),
    "two tokens": by(VapiBearer(f"{VAPI_SECRET},{VAPI_SECRET}"), 401, MESSAGE),
    "quoted token": by(VapiBearer(f'"{VAPI_SECRET}"'), 401, MESSAGE),
    "bytes beyond ASCII": always(401, MESSAGE, {"Authorization": b"Bearer \xff\xfe"}),
    "long token": by(VapiBearer("x" * 8_000), 401, MESSAGE),
    "as X-Vapi-Secret": by(VapiSecret(VAPI_SECRET), 401, MESSAGE),
    "as HMAC": by(HMAC, 401, MESSAGE),
    "wrong before right": always(
        401, MESSAGE, {"Authorization": "Bearer wrong", "authorization": f"Bearer {VAPI_SECRET}"}
    ),
    "too large": by(VapiBearer(VAPI_SECRET), 413, TOO_LARGE),
    "too large and nothing": always(401, TOO_LARGE, {}),
    **{f"genuine: {name}": by(VapiBearer(VAPI_SECRET), 400, body) for name, body in UNREADABLE.items()},
}
SECRET_CASES: dict[str, Case] = {
    "nothing": always(401, MESSAGE, {}),
    "empty, as Vapi sends it without a credential": by(VapiSecret(""), 401, MESSAGE),
    "another secret": by(VapiSecret("vapi-other"), 401, MESSAGE),
    "null": by(VapiSecret("null"), 401, MESSAGE),
    "truncated secret": by(VapiSecret(VAPI_SECRET[:-1]), 401, MESSAGE),
    "secret twice": by(VapiSecret(f"{VAPI_SECRET}, {VAPI_SECRET}"), 401, MESSAGE),
    "as bearer": by(VapiBearer(VAPI_SECRET), 401, MESSAGE),
    "bytes beyond ASCII": always(401, MESSAGE, {"X-Vapi-Secret": b"\xff\xfe"}),
    "genuine and not JSON": by(VapiSecret(VAPI_SECRET), 400, b"hello"),
}
HMAC_CASES: dict[str, Case] = {
    "nothing": always(401, MESSAGE, {}),
    "no timestamp": hmac_header(lambda t, v: {"x-signature": v}),
    "no signature": hmac_header(lambda t, v: {"x-timestamp": t}),
    "empty signature": hmac_header(lambda t, v: {"x-timestamp": t, "x-signature": ""}),
    "another timestamp": hmac_header(lambda t, v: {"x-timestamp": str(int(t) + 1), "x-signature": v}),
    "another unit": hmac_header(lambda t, v: {"x-timestamp": t + "000", "x-signature": v}),
    "timestamp in words": hmac_header(lambda t, v: {"x-timestamp": "now", "x-signature": v}),
    "another prefix": hmac_header(lambda t, v: {"x-timestamp": t, "x-signature": "sha256=" + v}),
    "capitals": hmac_header(lambda t, v: {"x-timestamp": t, "x-signature": v.upper()}),
    "bytes beyond ASCII": hmac_header(lambda t, v: {"x-timestamp": t, "x-signature": b"\xff" * 64}),
    "guessed secret": by(VapiHmac("vapi-other"), 401, MESSAGE),
    "empty secret": by(VapiHmac(""), 401, MESSAGE),
    "another body": by(HMAC, 401, MESSAGE, covers=b"{}"),
    "old": by(HMAC, 401, MESSAGE, age=TOLERANCE_SECONDS + 5),
    "from the future": by(HMAC, 401, MESSAGE, age=-TOLERANCE_SECONDS - 60),
    "old in milliseconds": by(VapiHmac(VAPI_SECRET, "ms"), 401, MESSAGE, age=TOLERANCE_SECONDS + 5),
    "as bearer": by(VapiBearer(VAPI_SECRET), 401, MESSAGE),
    "as X-Vapi-Secret": by(VapiSecret(VAPI_SECRET), 401, MESSAGE),
    "genuine and not JSON": by(HMAC, 400, b"hello"),
}
