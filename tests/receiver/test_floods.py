"""Strangers, who have no secret, and how little they can make the receiver hold."""

import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from calltally.sandbox.signing import VapiBearer, forged_stripe_signature
from receiver import webhooks
from receiver.webhooks import UNCOUNTED_BYTES
from tests.books import Books
from tests.receiver.conftest import VAPI, Serve, send_stripe, send_vapi, signed, stripe_event, vapi_message
from tests.receiver.serving import Served, post, read_answer, until

STRANGERS = 6
LARGE = 3 * UNCOUNTED_BYTES
LIMITS = {"webhook_max_bytes": 4 * UNCOUNTED_BYTES}
HALF_SENT = post("/webhooks/stripe", b"x" * LARGE, signed(b"", forged_stripe_signature()))[:-1]
LARGE_EVENT = stripe_event("evt_large") + b" " * LARGE
LARGE_REPORT = vapi_message("large") + b" " * LARGE
TWILIO = {"public_url": "https://billing.example.com", "twilio_auth_token": (SecretStr("token"),)}


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers that hold two large bodies at once, not three."""
    monkeypatch.setattr(webhooks, "MAX_READING_BYTES", 5 * UNCOUNTED_BYTES)


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    """Closes what is opened in it."""
    with ExitStack() as stack:
        yield stack


def flood(served: Served, connections: ExitStack) -> list[socket.socket]:
    """Strangers who each send all but the end of a large body, under a signature that might be Stripe's.

    Returns when no more than two of them still wait for an answer.
    """
    strangers = [connections.enter_context(served.connect()) for _ in range(STRANGERS)]
    for stranger in strangers:
        stranger.sendall(HALF_SENT)
    until(lambda: len(answered(strangers)) >= STRANGERS - 2)
    return strangers


def answered(strangers: Sequence[socket.socket]) -> list[socket.socket]:
    """Those for whom there is something to read."""
    return select.select(strangers, [], [], 0)[0]


def test_half_sent_bodies_of_strangers_are_held_up_to_the_budget_and_hold_up_nobody(
    serve: Serve, books: Books, room_for_two: None, connections: ExitStack
) -> None:
    """All but two hear 503; small webhooks, and large ones of another provider, are stored meanwhile."""
    served = serve(**LIMITS)
    strangers = flood(served, connections)
    refusals = [read_answer(stranger) for stranger in answered(strangers)]

    with served.client() as client:
        assert send_stripe(client, stripe_event("evt_small")).status_code == 200
        assert send_vapi(client, LARGE_REPORT).status_code == 200
        metrics = client.get("/metrics").text
    assert {answer.status for answer in refusals} == {503}
    assert {answer.headers["connection"] for answer in refusals} == {"close"}
    assert all("retry-after" in answer.headers for answer in refusals)
    assert books.value("SELECT count(*) FROM events") == 2
    refused = f'calltally_webhook_requests_total{{outcome="unavailable",provider="stripe"}} {len(refusals)}.0'
    assert refused in metrics


def test_budget_is_given_back_when_strangers_hang_up(
    serve: Serve, room_for_two: None, connections: ExitStack
) -> None:
    """Then large bodies fit again, however often that happens."""
    served = serve(**LIMITS)
    for _ in range(3):
        flood(served, connections)
        connections.close()
        until(lambda: not served.server.server_state.tasks)

    with served.client() as client:
        assert send_stripe(client, LARGE_EVENT).status_code == 200


def test_budget_is_given_back_when_strangers_are_too_slow(
    serve: Serve, room_for_two: None, connections: ExitStack
) -> None:
    """Those who were held hear 408."""
    served = serve(webhook_read_timeout=timedelta(milliseconds=500), **LIMITS)
    strangers = flood(served, connections)
    until(lambda: len(answered(strangers)) == STRANGERS)

    assert 408 in {read_answer(stranger).status for stranger in strangers}
    with served.client() as client:
        assert send_stripe(client, LARGE_EVENT).status_code == 200


def test_body_within_its_limit_fits_even_if_the_budget_is_smaller(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever raises a limit need not know of the budget."""
    monkeypatch.setattr(webhooks, "MAX_READING_BYTES", 1)
    with serve().client() as client:
        assert send_stripe(client, LARGE_EVENT).status_code == 200


@pytest.mark.parametrize(
    ("path", "settings", "headers"),
    [
        ("/webhooks/vapi", {}, {"Authorization": "Bearer guessed"}),
        ("/webhooks/vapi", {"vapi_webhook_auth": "secret"}, {"X-Vapi-Secret": "guessed"}),
        ("/webhooks/vapi", {"vapi_webhook_auth": "hmac"}, {"X-Signature": "00"}),
        ("/webhooks/stripe", {}, {"Stripe-Signature": "t=1,v1=00"}),
        ("/webhooks/twilio", TWILIO, {}),
        ("/webhooks/stripe", {"stripe_webhook_secrets": ()}, signed(b"", forged_stripe_signature())),
        ("/webhooks/twilio", {**TWILIO, "twilio_auth_token": ()}, {"X-Twilio-Signature": "00"}),
    ],
)
def test_body_that_the_headers_disprove_is_not_read(
    serve: Serve, path: str, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    """401 comes although none of the body does."""
    assert serve(**settings).exchange(post(path, b"", headers, length=900_000)).status == 401


def test_connection_serves_the_next_request_after_a_body_that_was_not_read(served: Served) -> None:
    """The rest is passed over, so that a sender with a wrong credential hears 401 and nothing else."""
    with served.connect() as connection:
        connection.sendall(post("/webhooks/vapi", LARGE_REPORT, signed(LARGE_REPORT, VapiBearer("guessed"))))
        refused = read_answer(connection)
        connection.sendall(post("/webhooks/vapi", LARGE_REPORT, signed(LARGE_REPORT, VAPI)))
        stored = read_answer(connection)

    assert (refused.status, stored.status) == (401, 200)
