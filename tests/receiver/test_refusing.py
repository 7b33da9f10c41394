"""Whatever is forged or malformed is answered as the table says, and leaves nothing behind."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.books import Books
from tests.receiver.cases import BEARER_CASES, EVENT, HMAC_CASES, MAX_BYTES, SECRET_CASES, STRIPE_CASES, Case
from tests.receiver.conftest import STRIPE, receiver
from tests.receiver.serving import Served, post

SAYINGS = {
    400: b'{"error": "not JSON"}',
    401: b'{"error": "signature refused"}',
    413: b'{"error": "too large"}',
}
VAPI_CASES = [
    (auth, name)
    for auth, cases in (("bearer", BEARER_CASES), ("secret", SECRET_CASES), ("hmac", HMAC_CASES))
    for name in cases
]
CASES_OF = {"bearer": BEARER_CASES, "secret": SECRET_CASES, "hmac": HMAC_CASES}


@pytest.fixture(scope="module")
def receivers(lasting_engine: Engine) -> Iterator[dict[str, Served]]:
    """One receiver for each form of Vapi's; each serves Stripe alike."""
    limits = {"webhook_max_bytes": MAX_BYTES, "vapi_webhook_max_bytes": MAX_BYTES}
    with (
        receiver(lasting_engine, vapi_webhook_auth="bearer", **limits) as bearer,
        receiver(lasting_engine, vapi_webhook_auth="secret", **limits) as secret,
        receiver(lasting_engine, vapi_webhook_auth="hmac", **limits) as by_hmac,
    ):
        yield {"bearer": bearer, "secret": secret, "hmac": by_hmac}


def assert_refused(served: Served, path: str, case: Case, books: Books) -> None:
    """The status of the table, the words of that status, and nothing stored."""
    answer = served.exchange(post(path, case.body, case.headers(time.time())))

    assert (answer.status, answer.body) == (case.status, SAYINGS[case.status])
    assert answer.headers["content-type"] == "application/json"
    assert books.value("SELECT count(*) FROM events") == 0


@pytest.mark.parametrize("name", STRIPE_CASES)
def test_delivery_that_is_not_stripes_is_refused(
    name: str, receivers: dict[str, Served], lasting_engine: Engine
) -> None:
    """Forged: 401; signed and not JSON: 400; too large: 413."""
    assert_refused(receivers["bearer"], "/webhooks/stripe", STRIPE_CASES[name], Books(lasting_engine))


@pytest.mark.parametrize(("auth", "name"), VAPI_CASES)
def test_delivery_that_is_not_vapis_is_refused(
    auth: str, name: str, receivers: dict[str, Served], lasting_engine: Engine
) -> None:
    """In each form the same answers."""
    assert_refused(receivers[auth], "/webhooks/vapi", CASES_OF[auth][name], Books(lasting_engine))


def test_tables_hold_forty_cases_and_more_for_each_provider() -> None:
    """A table that shrinks proves less."""
    assert len(STRIPE_CASES) >= 40
    assert len(VAPI_CASES) >= 40


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/webhooks/stripe", "/webhooks/vapi"])
def test_webhook_route_takes_nothing_but_post(method: str, path: str, receivers: dict[str, Served]) -> None:
    """405, with what is allowed."""
    with receivers["bearer"].client() as client:
        answer = client.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["/", "/webhooks", "/webhooks/", "/webhooks/paypal", "/webhooks/stripe/x", "/metrics/x"]
)
def test_route_that_is_not_there_is_not_found(path: str, receivers: dict[str, Served]) -> None:
    """404, signed or not."""
    answer = receivers["bearer"].exchange(post(path, EVENT, STRIPE.headers(EVENT, time.time())))

    assert answer.status == 404


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_request_that_is_no_http_is_refused_and_the_next_one_served(
    request_bytes: bytes, receivers: dict[str, Served]
) -> None:
    """Nonsense on one connection harms no other."""
    assert receivers["bearer"].exchange(request_bytes).status in {400, 401}
    assert receivers["bearer"].exchange(post("/webhooks/stripe", EVENT, {})).status == 401
