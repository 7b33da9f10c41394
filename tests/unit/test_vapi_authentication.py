"""The three ways in which Vapi proves itself; the sandbox's signers were written from the documentation alone."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from billing.errors import InvalidSignature
from billing.signatures import (
    TOLERANCE_SECONDS,
    HmacPlan,
    verify_vapi_bearer,
    verify_vapi_hmac,
    verify_vapi_secret,
)
from calltally.sandbox.signing import VapiBearer, VapiHmac, VapiSecret

NOW = 1_793_714_400
SECRET = "vapi-current"
OLD_SECRET = "vapi-previous"
BODY = b'{"message":{"type":"hang","text":"{timestamp} and {body}"}}'

Verify = Callable[[bytes, Mapping[str, str], Sequence[str], float], None]


def accepts(
    verify: Verify, headers: Mapping[str, str], secrets: Sequence[str] = (SECRET,), *, body: bytes = BODY
) -> bool:
    """Whether the check passes."""
    try:
        verify(body, Headers(headers), secrets, NOW)
    except InvalidSignature:
        return False
    return True


def signature(signed: bytes, secret: bytes = SECRET.encode(), algorithm: str = "sha256") -> str:
    """The hex HMAC of what is signed."""
    return hmac.new(secret, signed, algorithm).hexdigest()


def hmac_headers(stamp: str = str(NOW), body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    """The headers of Vapi's default plan."""
    return {"x-timestamp": stamp, "x-signature": signature(stamp.encode() + b"." + body, secret.encode())}


@pytest.mark.parametrize(
    ("verify", "headers"),
    [
        (verify_vapi_bearer, VapiBearer(SECRET).headers(BODY, NOW)),
        (verify_vapi_secret, VapiSecret(SECRET).headers(BODY, NOW)),
        (verify_vapi_hmac, VapiHmac(SECRET).headers(BODY, NOW)),
        (verify_vapi_hmac, VapiHmac(SECRET, "ms").headers(BODY, NOW)),
        (verify_vapi_bearer, {"Authorization": f"bearer {SECRET}"}),
        (verify_vapi_bearer, {"Authorization": f"Bearer   {SECRET} "}),
        (verify_vapi_hmac, hmac_headers()),
    ],
)
def test_delivery_of_vapi_is_accepted_in_each_form(verify: Verify, headers: dict[str, str]) -> None:
    """As the sandbox signs, and with the freedoms that HTTP gives."""
    assert accepts(verify, headers)


BEARER_REFUSED = [
    None,
    "",
    "Bearer",
    "Bearer ",
    SECRET,
    f"Basic {SECRET}",
    f"Token {SECRET}",
    f"Bearer{SECRET}",
    f"Bearer {SECRET}x",
    f"Bearer x{SECRET}",
    f"Bearer {SECRET[:-1]}",
    f"Bearer {SECRET.upper()}",
    f'Bearer "{SECRET}"',
    f"Bearer {SECRET},{OLD_SECRET}",
    f"Bearer {SECRET} {SECRET}",
    "Bearer null",
    "Bearer é",
    f"Bearer {'x' * 100_000}",
]
SECRET_REFUSED = [
    *(None, "", " ", "null", "undefined", "é", f"Bearer {SECRET}", SECRET.upper(), SECRET[:-1], SECRET + "x"),
    *(f"{SECRET},{SECRET}", "x" * 100_000, hashlib.sha256(SECRET.encode()).hexdigest()),
]
HMAC_REFUSED = [
    {},
    {"x-timestamp": str(NOW)},
    {"x-signature": hmac_headers()["x-signature"]},
    {**hmac_headers(), "x-signature": ""},
    {**hmac_headers(), "x-timestamp": ""},
    {**hmac_headers(), "x-timestamp": str(NOW + 1)},
    {**hmac_headers(), "x-timestamp": f"{NOW}000"},
    {**hmac_headers(), "x-signature": hmac_headers()["x-signature"].upper()},
    {**hmac_headers(), "x-signature": "sha256=" + hmac_headers()["x-signature"]},
    {**hmac_headers(), "x-signature": hmac_headers()["x-signature"][:-1]},
    {**hmac_headers(), "x-signature": "é" * 64},
    {**hmac_headers(), "x-signature": "0" * 64},
    {**hmac_headers(), "x-signature": SECRET},
    hmac_headers(body=b"{}"),
    hmac_headers(secret="vapi-other"),
    hmac_headers(secret=""),
    hmac_headers(str(NOW - TOLERANCE_SECONDS - 1)),
    hmac_headers(str(NOW + TOLERANCE_SECONDS + 1)),
    hmac_headers(f"{NOW - TOLERANCE_SECONDS - 1}000"),
    hmac_headers(f"{NOW}.5"),
    hmac_headers(f"-{NOW}"),
    hmac_headers("0"),
    hmac_headers(f"{NOW}xyz"),
    hmac_headers("2026-11-03T14:00:00Z"),
    hmac_headers("9" * 5_000),
    {"X-Vapi-Secret": SECRET},
    {"Authorization": f"Bearer {SECRET}"},
]


@pytest.mark.parametrize("header", BEARER_REFUSED)
def test_bearer_that_is_not_the_token_is_refused(header: str | None) -> None:
    """Nothing but the scheme and the whole token counts."""
    assert not accepts(verify_vapi_bearer, {} if header is None else {"Authorization": header})


@pytest.mark.parametrize("header", SECRET_REFUSED)
def test_secret_that_is_not_ours_is_refused(header: str | None) -> None:
    """Vapi sends the header empty when no credential is attached."""
    assert not accepts(verify_vapi_secret, {} if header is None else {"X-Vapi-Secret": header})


@pytest.mark.parametrize("headers", HMAC_REFUSED)
def test_hmac_that_does_not_cover_this_body_now_is_refused(headers: dict[str, str]) -> None:
    """Wrong, missing, old, ahead, or of another plan."""
    assert not accepts(verify_vapi_hmac, headers)


@pytest.mark.parametrize(
    ("verify", "headers"),
    [
        (verify_vapi_bearer, {"Authorization": "Bearer "}),
        (verify_vapi_secret, {"X-Vapi-Secret": ""}),
        (verify_vapi_secret, {}),
        (verify_vapi_hmac, hmac_headers(secret="")),
    ],
)
@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
def test_without_a_secret_even_an_empty_one_is_refused(
    verify: Verify, headers: dict[str, str], secrets: tuple[str, ...]
) -> None:
    """An empty secret is known to everybody."""
    assert not accepts(verify, headers, secrets)


@pytest.mark.parametrize("signer", [VapiBearer, VapiSecret, VapiHmac])
@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_each_of_two_secrets_is_valid_while_rotating(
    signer: type[VapiBearer | VapiSecret | VapiHmac], secret: str
) -> None:
    """In every form, in either order."""
    forms: dict[str, Verify] = {
        "bearer": verify_vapi_bearer,
        "secret": verify_vapi_secret,
        "hmac": verify_vapi_hmac,
    }
    verify = forms[signer.kind]

    assert accepts(verify, signer(secret).headers(BODY, NOW), (SECRET, OLD_SECRET))
    assert accepts(verify, signer(secret).headers(BODY, NOW), (OLD_SECRET, SECRET))
    assert not accepts(verify, signer(secret).headers(BODY, NOW), ("vapi-other",))


def test_secret_with_letters_beyond_ascii_is_compared_by_its_bytes() -> None:
    """What comes in UTF-8 is shown to us as Latin-1."""
    as_shown = "schlüssel".encode().decode("latin-1")

    assert accepts(verify_vapi_secret, {"X-Vapi-Secret": as_shown}, ("schlüssel",))
    assert accepts(verify_vapi_bearer, {"Authorization": f"Bearer {as_shown}"}, ("schlüssel",))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha="])
@pytest.mark.parametrize("payload_format", ["{timestamp}.{body}", "{body}", "v0:{timestamp}:{body}:end", "{body}\n"])
def test_hmac_of_any_plan_is_accepted_and_of_another_body_refused(
    algorithm: Literal["sha256", "sha512", "sha1"],
    encoding: Literal["hex", "base64"],
    prefix: str,
    payload_format: str,
) -> None:
    """Algorithm, encoding, prefix and format are the credential's; a body with braces of its own is no format."""
    plan = HmacPlan(
        algorithm=algorithm, encoding=encoding, prefix=prefix, payload_format=payload_format, signature_header="x-sig"
    )
    before, after = payload_format.replace("{timestamp}", str(NOW)).split("{body}")
    digest = hmac.new(SECRET.encode(), before.encode() + BODY + after.encode(), algorithm).digest()
    written = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    headers = {"X-Sig": prefix + written, "X-Timestamp": str(NOW)}
    verify = partial(verify_vapi_hmac, plan=plan)

    assert accepts(verify, headers)
    assert not accepts(verify, headers, body=BODY + b" ")
    assert not accepts(verify, headers, ("vapi-other",))
    assert not accepts(verify, {**headers, "X-Sig": "x" + prefix + written})


def test_hmac_without_a_signed_timestamp_needs_none() -> None:
    """A known production plan signs the raw body alone, under a name of its own choice."""
    plan = HmacPlan(signature_header="x-vapi-signature", payload_format="{body}")

    assert accepts(partial(verify_vapi_hmac, plan=plan), {"X-Vapi-Signature": signature(BODY)})


def test_hmac_timestamp_is_read_from_the_header_of_the_plan() -> None:
    """Another header of that meaning is not looked at."""
    plan = HmacPlan(timestamp_header="x-sent-at")
    headers = {"x-signature": signature(f"{NOW}.".encode() + BODY)}

    assert accepts(partial(verify_vapi_hmac, plan=plan), {**headers, "x-sent-at": str(NOW)})
    assert not accepts(partial(verify_vapi_hmac, plan=plan), {**headers, "x-timestamp": str(NOW)})


@pytest.mark.parametrize(
    ("unit", "stamp", "accepted"),
    [
        ("any", f"{NOW}", True),
        ("any", f"{NOW}000", True),
        ("seconds", f"{NOW}", True),
        ("seconds", f"{NOW}000", False),
        ("milliseconds", f"{NOW}", False),
        ("milliseconds", f"{NOW}000", True),
    ],
)
def test_hmac_timestamp_is_read_in_the_unit_of_the_plan(
    unit: Literal["any", "seconds", "milliseconds"], stamp: str, accepted: bool
) -> None:
    """The unit is not documented, so both are read unless one is chosen."""
    verify = partial(verify_vapi_hmac, plan=HmacPlan(timestamp_unit=unit))

    assert accepts(verify, hmac_headers(stamp)) is accepted


def test_hmac_secret_in_base64_stands_for_its_bytes() -> None:
    """The key is what the text decodes to, not the text."""
    key = bytes(range(32))
    secret = base64.b64encode(key).decode()
    verify = partial(verify_vapi_hmac, plan=HmacPlan(secret_is_base64=True))
    signed = f"{NOW}.".encode() + BODY

    assert accepts(verify, {"x-timestamp": str(NOW), "x-signature": signature(signed, key)}, (secret,))
    assert not accepts(
        verify, {"x-timestamp": str(NOW), "x-signature": signature(signed, secret.encode())}, (secret,)
    )


@pytest.mark.parametrize("secret", ["not base64!", "====", "YQ", "é"])
def test_hmac_secret_that_is_not_base64_is_no_key(secret: str) -> None:
    """A typing mistake is found before the first webhook."""
    with pytest.raises(ValueError, match=r"."):
        HmacPlan(secret_is_base64=True).key(secret)


@pytest.mark.parametrize(
    "payload_format",
    ["", "{timestamp}", "body", "{body}{body}", "{body}.{url}", "{timestamp}.{svix-id}.{body}", "{}{body}"],
)
def test_hmac_format_that_leaves_the_body_unsigned_or_is_unknown_is_refused(payload_format: str) -> None:
    """A format must sign the body, once, and name nothing that is not known."""
    with pytest.raises(ValueError, match="payload format"):
        HmacPlan(payload_format=payload_format)


@given(st.dictionaries(st.sampled_from(["authorization", "x-vapi-secret", "x-signature", "x-timestamp"]), st.text()))
def test_headers_of_any_text_are_refused_in_every_form(headers: dict[str, str]) -> None:
    """No text crashes a check, and none is accepted."""
    for verify in (verify_vapi_bearer, verify_vapi_secret, verify_vapi_hmac):
        with pytest.raises(InvalidSignature):
            verify(BODY, headers, (SECRET,), NOW)
