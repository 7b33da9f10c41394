"""Twilio's signature: its documented example, the sandbox's own signing, and everything that must not pass."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import InvalidSignature
from billing.signatures import MAX_SIGNED_FIELDS, twilio_urls, verify_twilio
from calltally.sandbox.twilio import TwilioSignature

PUBLIC_URL = "https://example.com"
TARGET = "/myapp.php?foo=1&bar=2"
TOKEN = "12345"
BODY = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675310&Digits=1234&From=%2B14158675310&To=%2B18005551212"
GOOD = "L/OH5YylLD5NRKLltdqwSvS0BnU="
"""Of Twilio's documentation."""

FORMS = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=8)


def accepts(
    header: str | None = GOOD,
    *,
    body: bytes = BODY,
    secrets: tuple[str, ...] = (TOKEN,),
    public_url: str | None = PUBLIC_URL,
    target: str = TARGET,
) -> bool:
    """Whether our check passes."""
    headers = {} if header is None else {"x-twilio-signature": header}
    try:
        verify_twilio(body, headers, secrets, twilio_urls(public_url), target)
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
        pytest.param({"target": "/myapp.php?bar=2&foo=1"}, id="query string in another order"),
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
    ("configured", "signed"),
    [
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com/", "https://example.com"),
        ("https://example.com:8443/in", "https://example.com:8443/in"),
    ],
)
def test_default_port_may_be_written_or_not(configured: str, signed: str) -> None:
    """Twilio's own library tries both as well."""
    assert accepts(signature(BODY, signed + TARGET), public_url=configured)


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
