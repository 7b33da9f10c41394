"""Bodies that are large, slow, or never come to an end."""

import re
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

import pytest

from billing.settings import Settings
from tests.books import Books
from tests.receiver.conftest import STRIPE, VAPI, Serve, send_stripe, send_vapi, signed, stripe_event, vapi_message
from tests.receiver.serving import LOOPBACK, Served, post, read_answer, until

LIMIT = 4_096


def padded(length: int) -> bytes:
    """An event of exactly this many bytes."""
    event = stripe_event("evt_1")
    return event + b" " * (length - len(event))


def chunked(path: str, chunks: Iterable[bytes], headers: dict[str, str]) -> bytes:
    """A POST that does not announce its length."""
    head = post(path, b"", {**headers, "Content-Length": None, "Transfer-Encoding": "chunked"})
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def test_body_of_just_the_limit_is_stored_and_one_byte_more_refused(serve: Serve, books: Books) -> None:
    """The limit itself is allowed."""
    with serve(webhook_max_bytes=LIMIT).client() as client:
        assert send_stripe(client, padded(LIMIT)).status_code == 200
        assert send_stripe(client, padded(LIMIT + 1)).status_code == 413

    assert books.value("SELECT octet_length(body) FROM event_bodies") == LIMIT


def test_each_provider_has_a_limit_of_its_own(serve: Serve) -> None:
    """Vapi's reports hold the transcript twice."""
    with serve(webhook_max_bytes=LIMIT, vapi_webhook_max_bytes=3 * LIMIT).client() as client:
        assert send_stripe(client, padded(2 * LIMIT)).status_code == 413
        assert send_vapi(client, vapi_message("call-1") + b" " * 2 * LIMIT).status_code == 200


def test_body_that_announces_too_much_is_refused_before_it_is_sent(serve: Serve) -> None:
    """The answer comes with the body still missing, and the connection ends."""
    request = post("/webhooks/stripe", b"", signed(b"", STRIPE), length=10_000_000_000)

    answer = serve(webhook_max_bytes=LIMIT).exchange(request)

    assert (answer.status, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("length", ["9" * 400, "\xb2", "1_000", "0x10"])
def test_announced_length_that_is_no_length_stops_nothing_but_its_own_request(served: Served, length: str) -> None:
    """Whatever the server makes of it, it answers and goes on."""
    raw = stripe_event("evt_1")
    answer = served.exchange(post("/webhooks/stripe", raw, {"Content-Length": length}))

    assert answer.status in {400, 413}
    assert served.exchange(post("/webhooks/stripe", raw, signed(raw, STRIPE))).status == 200


def test_chunks_without_an_announced_length_are_stored_as_one_body(served: Served, books: Books) -> None:
    """Signatures cover the body, not its packaging."""
    raw = padded(1_000)
    chunks = [raw[start : start + 100] for start in range(0, len(raw), 100)]

    answer = served.exchange(chunked("/webhooks/stripe", chunks, signed(raw, STRIPE)))

    assert answer.status == 200
    assert books.value("SELECT body FROM event_bodies") == raw


def test_chunks_beyond_the_limit_are_refused_while_they_come(serve: Serve, books: Books) -> None:
    """The last chunk is never sent, and the answer is there all the same."""
    with serve(webhook_max_bytes=LIMIT).connect() as connection:
        endless = chunked("/webhooks/stripe", [b"x" * 1_000] * 5, signed(b"", STRIPE)).removesuffix(b"0\r\n\r\n")
        connection.sendall(endless)

        assert read_answer(connection).status == 413

    assert books.value("SELECT count(*) FROM events") == 0


def test_body_of_ten_megabytes_is_refused_and_not_kept(served: Served, books: Books) -> None:
    """The sender hears it, or finds the connection closed while it still sends."""
    raw = b'{"id": "evt_1", "x": "' + b"x" * 10_000_000 + b'"}'
    with served.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(post("/webhooks/stripe", raw, signed(raw, STRIPE)))
        with suppress(ConnectionError):
            assert read_answer(connection).status == 413

    assert served.exchange(post("/webhooks/stripe", b"{}", signed(b"{}", STRIPE))).status == 200
    assert books.value("SELECT max(octet_length(body)) FROM event_bodies") == 2


def test_report_of_a_long_call_is_stored_by_default(served: Served, books: Books) -> None:
    """Five megabytes are within what Vapi sends for a call of hours."""
    raw = vapi_message("call-1") + b" " * 5_000_000
    with served.client() as client:
        assert send_vapi(client, raw).status_code == 200

    assert books.value("SELECT octet_length(body) FROM event_bodies") == len(raw)


def test_slow_sender_holds_up_nobody_and_is_stored_when_it_is_done(served: Served, books: Books) -> None:
    """Others are answered between two halves of its body."""
    slow, quick = vapi_message("slow"), vapi_message("quick")
    with served.connect() as connection, served.client() as client:
        request = post("/webhooks/vapi", slow, signed(slow, VAPI))
        connection.sendall(request[:-10])
        until(lambda: len(served.server.server_state.tasks) == 1)

        assert send_vapi(client, quick).status_code == 200
        assert books.value("SELECT count(*) FROM events") == 1

        connection.sendall(request[-10:])
        assert read_answer(connection).status == 200

    assert books.value("SELECT count(*) FROM events") == 2


def test_sender_that_never_finishes_is_sent_away(serve: Serve, books: Books) -> None:
    """408, and the connection ends: connections are not there to be held."""
    served = serve(webhook_read_timeout=timedelta(milliseconds=100))
    raw = stripe_event("evt_1")
    with served.connect() as connection:
        connection.sendall(post("/webhooks/stripe", raw, signed(raw, STRIPE))[:-1])
        answer = read_answer(connection)

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert books.value("SELECT count(*) FROM events") == 0


def test_sender_that_hangs_up_in_its_body_leaves_nothing(served: Served, books: Books) -> None:
    """Half a body is no delivery; whoever comes next is served."""
    raw = stripe_event("evt_1")
    with served.connect() as connection:
        connection.sendall(post("/webhooks/stripe", raw, signed(raw, STRIPE))[:-1])
        until(lambda: len(served.server.server_state.tasks) == 1)
        connection.shutdown(socket.SHUT_RDWR)
    until(lambda: not served.server.server_state.tasks)

    assert books.value("SELECT count(*) FROM events") == 0
    with served.client() as client:
        assert send_stripe(client, raw).status_code == 200


def test_two_requests_on_one_connection_are_answered_in_order(served: Served) -> None:
    """Keep-alive, and pipelined at that."""
    good, bad = stripe_event("evt_1"), stripe_event("evt_2")
    with served.connect() as connection:
        connection.sendall(
            post("/webhooks/stripe", good, STRIPE.headers(good, time.time())) + post("/webhooks/stripe", bad, {})
        )
        statuses = connection.recv(4_096)
        while statuses.count(b"HTTP/1.1") < 2:
            statuses += connection.recv(4_096)

    assert re.findall(rb"HTTP/1.1 (\d+)", statuses) == [b"200", b"401"]


def test_default_limits_fit_what_the_providers_send() -> None:
    """A report of a call of hours is larger than 1 MB."""
    assert Settings.model_fields["webhook_max_bytes"].default == 1_000_000
    assert Settings.model_fields["vapi_webhook_max_bytes"].default >= 5_000_000
    assert Settings.model_fields["receiver_host"].default == LOOPBACK
