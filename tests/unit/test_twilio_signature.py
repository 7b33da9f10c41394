"""Twilio's signature: its documented example, the sandbox's own signing, and everything that must not pass."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType, SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import twilio_signature
from billing.errors import InvalidSignature
from billing.twilio_signature import MAX_SIGNED_FIELDS, MAX_UNNAMED, TwilioSecrets, twilio_urls, verify_twilio
from calltally.sandbox.twilio import TwilioSignature

PUBLIC_URL = "https://example.com"
TARGET = "/myapp.php?foo=1&bar=2"
TOKEN = "12345"
BODY = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675310&Digits=1234&From=%2B14158675310&To=%2B18005551212"
GOOD = "L/OH5YylLD5NRKLltdqwSvS0BnU="
"""Of Twilio's documentation."""

RULE = Path(__file__).parents[1] / "payloads" / "twilio" / "webhook-rule-sha256.json"
QUERY_PARTS = st.from_regex(r"[a-c]{1,2}(=[a-c%+0-9]{0,3})?", fullmatch=True)

FORMS = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=8)


def accepts(
    header: str | None = GOOD,
    *,
    body: bytes = BODY,
    secrets: tuple[str, ...] = (TOKEN,),
    public_url: str | None = PUBLIC_URL,
    target: str = TARGET,
    others: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Whether our check passes; `others` are further headers."""
    headers = {**others, **({} if header is None else {"x-twilio-signature": header})}
    try:
        verify_twilio(body, headers, TwilioSecrets.read(secrets), twilio_urls(public_url), target)
    except InvalidSignature:
        return False
    return True


def signature(body: bytes, url: str = PUBLIC_URL + TARGET, token: str = TOKEN) -> str:
    """As the sandbox signs, which knows nothing of our code."""
    return TwilioSignature(token, url).headers(body, 0)["X-Twilio-Signature"]


def test_documented_example_passes() -> None:
    """In any order of the parameters."""
    assert accepts()
    assert accepts(body=b"&".join(reversed(BODY.split(b"&"))))
    assert signature(BODY) == GOOD


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"header": None}, id="no header"),
        pytest.param({"header": ""}, id="empty header"),
        pytest.param({"header": "garbage"}, id="garbage"),
        pytest.param({"header": "ÿþ"}, id="beyond ASCII"),
        pytest.param({"header": GOOD[:-1]}, id="truncated"),
        pytest.param({"header": GOOD.lower()}, id="lower case"),
        pytest.param({"header": TOKEN}, id="the token itself"),
        pytest.param({"header": signature(BODY, token="")}, id="by an empty token"),
        pytest.param({"header": signature(BODY, token=""), "secrets": ("",)}, id="empty token"),
        pytest.param({"secrets": ()}, id="no token"),
        pytest.param({"secrets": ("54321",)}, id="another token"),
        pytest.param({"public_url": None}, id="no public URL"),
        pytest.param({"public_url": "http://example.com"}, id="another scheme"),
        pytest.param({"public_url": "https://example.org"}, id="another host"),
        pytest.param({"public_url": "https://example.com/behind"}, id="another path in front"),
        pytest.param({"target": "/myapp.php"}, id="without the query string"),
        pytest.param({"target": "/myapp.php?foo=1&bar=3"}, id="another value in the query string"),
        pytest.param({"target": "/myapp.php?foo=1&bar=2&bar=2"}, id="a parameter of the query string twice"),
        pytest.param({"target": "/myapp.php/?foo=1&bar=2"}, id="slash too many"),
        pytest.param({"body": BODY + b"&MessageStatus=sent"}, id="a parameter too many"),
        pytest.param({"body": BODY.replace(b"&Digits=1234", b"")}, id="a parameter too few"),
        pytest.param({"body": BODY.replace(b"1234&", b"1235&")}, id="another value"),
        pytest.param({"body": b""}, id="no body"),
        pytest.param({"body": b"\xff\xfe"}, id="no UTF-8"),
        pytest.param({"body": b"a=1&" * (MAX_SIGNED_FIELDS + 1)}, id="more fields than anybody sends"),
    ],
)
def test_whatever_is_not_exactly_so_is_refused(case: dict[str, object]) -> None:
    """Each part of the proof counts."""
    assert not accepts(**case)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("configured", "signed", "host"),
    [
        ("https://example.com", "https://example.com:443", ""),
        ("https://example.com:443", "https://example.com", ""),
        ("http://example.com", "http://example.com:80", ""),
        ("https://example.com/", "https://example.com", ""),
        ("https://example.com:8443/in", "https://example.com:8443/in", ""),
        ("https://example.com:8443", "https://example.com", ""),
        ("https://example.com:8443/in:8443", "https://example.com/in:8443", ""),
        ("https://example.com", "https://example.com:8443", "Example.com:8443"),
        ("https://example.com:443", "https://example.com:8443", "example.com:8443"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]", ""),
    ],
)
def test_port_may_be_written_or_not(configured: str, signed: str, host: str) -> None:
    """Any port: as Twilio's own library tries, and the one that the sender says to have called."""
    assert accepts(signature(BODY, signed + TARGET), public_url=configured, others={"host": host})


@pytest.mark.parametrize(
    "host", ["example.org:8443", "example.com:port", "example.com:", ":8443", "example.com:999999"]
)
def test_host_that_is_not_ours_adds_no_address(host: str) -> None:
    """Nor does one without a port."""
    assert not accepts(signature(BODY, f"https://{host}{TARGET}"), others={"host": host})


@given(st.lists(QUERY_PARTS, min_size=1, max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_query_is_proved_as_written_and_as_it_is_called(parts: list[str], random: Random, is_sorted: bool) -> None:
    """Twilio signs what is written and may call it sorted: four parameters in any order, and none missing."""
    written = random.sample(parts, len(parts))
    called = sorted(written) if is_sorted else random.sample(written, len(written))
    expected = signature(BODY, f"{PUBLIC_URL}/in?{'&'.join(written)}")

    assert accepts(expected, target=f"/in?{'&'.join(called)}")
    assert not accepts(expected, target=f"/in?{'&'.join([*called, 'more=1'])}")
    assert not accepts(expected, target="/in")


def test_long_query_is_proved_as_it_came_and_sorted() -> None:
    """There are too many other orders."""
    parts = [f"{name}=1" for name in "fedcba"]
    shuffled = [*parts[3:], *parts[:3]]

    assert accepts(signature(BODY, f"{PUBLIC_URL}/in?{'&'.join(parts)}"), target=f"/in?{'&'.join(parts)}")
    assert accepts(signature(BODY, f"{PUBLIC_URL}/in?{'&'.join(sorted(parts))}"), target=f"/in?{'&'.join(parts)}")
    assert not accepts(signature(BODY, f"{PUBLIC_URL}/in?{'&'.join(shuffled)}"), target=f"/in?{'&'.join(parts)}")


def test_token_is_that_of_the_account() -> None:
    """Whoever knows one account's token speaks for it alone; one without a name speaks for all others."""
    secrets = ("main", "AC1:first", "AC1:rotated", "AC2:second")

    def passes(account: str, token: str) -> bool:
        body = f"AccountSid={account}&MessageStatus=sent".encode()
        return accepts(signature(body, token=token), body=body, secrets=secrets)

    told = {
        account: [token for token in ("main", "first", "rotated", "second", "AC1:first") if passes(account, token)]
        for account in ("AC0", "AC1", "AC2", "")
    }
    assert told == {"AC0": ["main"], "AC1": ["first", "rotated"], "AC2": ["second"], "": ["main"]}


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ("key=SK1,algorithm=HMAC_SHA256", True),
        (" key = SK1 , algorithm=hmac_sha256", True),
        ("key=SK1", False),  # SHA-1 then, as Twilio's own library reads it
        ("algorithm=HMAC_SHA256", False),  # by the account's token
        ("key=SK2,algorithm=HMAC_SHA256", False),
        ("key=,algorithm=HMAC_SHA256", False),
        ("key=SK1,algorithm=HMAC_MD5", False),
        ("key=SK1,algorithm=HMAC_SHA1", False),
        ("", False),
    ],
)
def test_webhook_rule_signs_with_its_shared_key(settings: str, passes: bool) -> None:
    """By SHA-256, over the same text; a key that is not known here signs nothing."""
    given = json.loads(RULE.read_text())
    body = urlencode(given["form"]).encode()
    pairs = "".join(name + content for name, content in sorted(given["form"].items()))
    digest = hmac.new(b"shared", f"{PUBLIC_URL}/in{pairs}".encode(), hashlib.sha256).digest()
    others = {"x-twilio-webhooks-signature-settings": settings}

    assert given["headers"] == {"X-Twilio-Webhooks-Signature-Settings": "key=SK1,algorithm=HMAC_SHA256"}
    assert passes == accepts(
        base64.b64encode(digest).decode(),
        body=body,
        target="/in",
        secrets=("main", "SK1:shared", "SK2:other"),
        others=others,
    )


def test_forged_flood_costs_little_however_many_accounts_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in signatures reckoned: two for 25,000 subaccounts, and never more than the limit."""
    reckoned = 0

    def counting(*arguments: Any) -> bytes:
        nonlocal reckoned
        reckoned += 1
        return hmac.digest(*arguments)

    monkeypatch.setattr(
        twilio_signature, "hmac", SimpleNamespace(digest=counting, compare_digest=hmac.compare_digest)
    )
    many = ("main", *(f"AC{number}:{number:032x}" for number in range(25_000)))
    body = b"AccountSid=AC77&MessageStatus=sent"

    assert not accepts("forged", body=body, secrets=many, target="/in")
    assert reckoned == 2
    reckoned = 0
    unnamed = tuple(f"{number:032x}" for number in range(MAX_UNNAMED))
    assert not accepts("forged", body=body, secrets=unnamed, target="/in?a=1&b=2&c=3&d=4")
    assert reckoned == twilio_signature.MAX_TRIED
    reckoned = 0
    assert not accepts("forged", body=b"a=" + b"x" * 8_000, secrets=unnamed, target="/in?a=1&b=2&c=3&d=4")
    assert reckoned * 8_000 <= twilio_signature.MAX_HASHED_BYTES


def test_more_tokens_without_a_name_than_can_be_tried_are_refused() -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match="write those of subaccounts as AC…:token"):
        TwilioSecrets.read(f"{number:032x}" for number in range(MAX_UNNAMED + 1))


def test_empty_parameters_repeated_ones_and_fragments_are_signed_as_twilio_does() -> None:
    """Empty ones count, the same twice counts once, and what stands behind # in Twilio's console does not."""
    body = b"Body=&A=2&A=1&A=2&b=+x+"
    expected = signature(body, f"{PUBLIC_URL}/in#rc=5&rp=5xx")

    assert accepts(expected, body=body, target="/in")
    assert not accepts(expected, body=b"A=2&A=1&A=2&b=+x+", target="/in")
    assert not accepts(expected, body=body.replace(b"+x+", b"x"), target="/in")


@given(FORMS)
def test_any_form_is_signed_as_the_sandbox_signs_it(pairs: list[tuple[str, str]]) -> None:
    """Names and values of any characters, repeated or empty."""
    body = urlencode(pairs).encode()

    assert accepts(signature(body), body=body)
