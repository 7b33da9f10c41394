"""Strangers who never come to the point: heads without an end, silent connections, and what they may take."""

import resource
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from http.client import BadStatusLine
from ipaddress import ip_network

import pytest
from starlette.types import Receive, Scope, Send

from calltally.sandbox.signing import forged_stripe_signature
from receiver.connections import BoundedConnection, Door, Limits
from tests.books import Books
from tests.receiver.conftest import STRIPE, Serve, send_stripe, settings_with, signed, stripe_event
from tests.receiver.serving import LOOPBACK, Served, post, read_answer, serving, until

HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nHost: 127.0.0.1\r\n"
PLAUSIBLE = (
    HEAD
    + b"Stripe-Signature: %s\r\n" % forged_stripe_signature().headers(b"", time.time())["Stripe-Signature"].encode()
)
QUICK = Limits(head_seconds=0.3, request_seconds=0.6)
BUFFERED_BYTES = 20_000_000
"""What the kernel may take from a sender of whom nobody reads any more."""
CHUNK = b"x" * 100_000
FILES = 12_000
NOWHERE = "203.0.113.0/24"


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    """Closes what is opened in it."""
    with ExitStack() as stack:
        yield stack


def sent_before_refusal(connection: socket.socket, beginning: bytes, endless: bytes, limit: int) -> int:
    """How many bytes go out before the receiver has enough, at most `limit`."""
    sent = 0
    with suppress(ConnectionError):
        connection.sendall(beginning)
        while sent < limit and not is_readable(connection):
            connection.sendall(endless)
            sent += len(endless)
    return sent


def is_readable(connection: socket.socket, within_ms: int = 0) -> bool:
    """Whether something came, be it the end; `select` knows only the first thousand files."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(within_ms))


def is_closed(connection: socket.socket) -> bool:
    """Whether the receiver has hung up."""
    if not is_readable(connection):
        return False
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def all_closed(connections: Sequence[socket.socket]) -> bool:
    """Whether it has hung up on all of them."""
    return all(map(is_closed, connections))


def is_served(served: Served, event_id: str = "evt_genuine") -> bool:
    """Whether a genuine webhook on a connection of its own is stored."""
    with served.client() as client:
        return send_stripe(client, stripe_event(event_id)).status_code == 200


ENDLESS = {
    "one header": (HEAD + b"X-Endless: ", CHUNK),
    "the name of a header": (HEAD + b"X-", CHUNK),
    "many headers": (HEAD, b"X-Many: 1\r\n" * 1_000),
    "the path": (b"GET /", CHUNK),
    "the method": (b"", CHUNK),
    "empty lines in front": (b"", b"\r\n" * 50_000),
    "a trailer": (PLAUSIBLE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: ", CHUNK),
    "many trailers": (PLAUSIBLE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X-Many: 1\r\n" * 1_000),
    "the extension of a chunk": (PLAUSIBLE + b"Transfer-Encoding: chunked\r\n\r\n2;", CHUNK),
    "requests without waiting": (b"", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_refused_soon(served: Served, what: str) -> None:
    """Wherever a request could go on for ever outside of its body; whoever is genuine is served meanwhile."""
    with served.connect() as connection:
        assert sent_before_refusal(connection, *ENDLESS[what], 3 * BUFFERED_BYTES) < BUFFERED_BYTES
        assert is_served(served)
        until(lambda: is_closed(connection))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_header_of_150_megabytes_is_not_taken(served: Served) -> None:
    """Counted in bytes, of which the kernel's buffers hold most."""
    with served.connect() as connection:
        assert sent_before_refusal(connection, *ENDLESS["one header"], 150_000_000) < BUFFERED_BYTES


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"X-Long: " + b"x" * (8_192 - len("X-Long")) + b"\r\n", 401),
        (b"X-Long: " + b"x" * (8_193 - len("X-Long")) + b"\r\n", 400),
        ((b"X-Some: " + b"x" * 1_000 + b"\r\n") * 15, 401),
        ((b"X-Some: " + b"x" * 1_000 + b"\r\n") * 17, 400),
    ],
    ids=["longest line", "longer line", "large head", "larger head"],
)
def test_head_may_be_as_large_as_its_limits(served: Served, head: bytes, status: int) -> None:
    """A line, and all together; whether it comes at once or byte by byte makes no difference."""
    request = HEAD + head + b"Content-Length: 2\r\n\r\n{}"

    assert served.exchange(request).status == status
    with served.connect() as connection:
        for start in range(0, len(request), 997):
            connection.sendall(request[start : start + 997])
        assert read_answer(connection).status == status


@pytest.mark.parametrize("said", [b"", b"P", HEAD, b"\r\n", post("/webhooks/stripe", b"", {}) + HEAD])
def test_head_that_does_not_end_in_time_is_closed(serve: Serve, said: bytes) -> None:
    """With 408 if anything of it came, also behind a request that was answered."""
    with serve(limits=QUICK).connect() as connection:
        connection.sendall(said)
        if said.endswith(HEAD) and said != HEAD:
            assert read_answer(connection).status == 401
        if b"P" in said:
            answer = read_answer(connection)
            assert (answer.status, answer.headers["connection"]) == (408, "close")
        until(lambda: is_closed(connection))


def test_head_that_trickles_is_closed_all_the_same(serve: Serve) -> None:
    """Each byte is no new beginning."""
    with serve(limits=QUICK).connect() as connection:
        connection.sendall(HEAD + b"X-Slow: ")
        with suppress(ConnectionError):
            while not is_closed(connection):
                connection.sendall(b"x")
                is_readable(connection, within_ms=50)


@pytest.mark.parametrize("status", [401, 413])
def test_rest_of_a_refused_body_is_not_awaited(serve: Serve, status: int) -> None:
    """Whoever has been answered and sends no next request in time is idle."""
    request = {
        401: post("/webhooks/stripe", b"{", {}, length=900_000),
        413: post("/webhooks/stripe", b"{", signed(b"", STRIPE), length=9_000_000_000),
    }[status]
    with serve(limits=QUICK).connect() as connection:
        connection.sendall(request)
        assert read_answer(connection).status == status
        with suppress(ConnectionError):
            while not is_closed(connection):
                connection.sendall(b"x")
                is_readable(connection, within_ms=50)


def test_answer_that_nobody_takes_is_not_held(serve: Serve, connections: ExitStack) -> None:
    """A sender that asks and does not listen is left after a while."""
    served = serve(limits=replace(QUICK, pipelined=1_000_000))
    connection = socket.socket()
    connections.callback(connection.close)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(5)
    connection.connect((LOOPBACK, served.port))
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    connection.sendall(asked)
    until(lambda: served.server.server_state.connections)
    until(lambda: not served.server.server_state.connections)

    assert not served.server.server_state.tasks


def test_idle_connections_make_room(serve: Serve, connections: ExitStack) -> None:
    """Who has been idle for longest is closed; who comes, or has a request underway, is not."""
    served = serve(limits=Limits(connections=10))
    underway = connections.enter_context(served.connect())
    raw = stripe_event("evt_underway")
    request = post("/webhooks/stripe", raw, signed(raw, STRIPE))
    underway.sendall(request[:-1])
    until(lambda: served.server.server_state.tasks)
    idle = [connections.enter_context(served.connect()) for _ in range(30)]
    until(partial(all_closed, idle[:21]))

    assert is_served(served)
    assert len(served.server.server_state.connections) <= 10
    assert not is_closed(idle[-1])
    underway.sendall(request[-1:])
    assert read_answer(underway).status == 200


def test_half_sent_heads_are_idle(serve: Serve, connections: ExitStack) -> None:
    """Only a request that has begun counts."""
    served = serve(limits=Limits(connections=10, requests=2))
    for _ in range(30):
        connections.enter_context(served.connect()).sendall(HEAD)

    assert is_served(served)


def test_requests_that_have_begun_are_counted(serve: Serve, connections: ExitStack) -> None:
    """One more is answered 503, and told when to come again; then there is room again."""
    served = serve(limits=Limits(requests=2))
    raw = stripe_event("evt_1")
    request = post("/webhooks/stripe", raw, signed(raw, STRIPE))
    for _ in range(2):
        connections.enter_context(served.connect()).sendall(request[:-1])
    until(lambda: len(served.server.server_state.tasks) == 2)
    answer = served.exchange(request)
    connections.close()
    until(lambda: not served.server.server_state.tasks)

    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert "retry-after" in answer.headers
    assert is_served(served)


def test_address_has_so_many_connections_and_proxies_any_number(serve: Serve, connections: ExitStack) -> None:
    """The oldest idle one of the same address makes room; others' are not touched."""
    few = Limits(connections_of_address=3)
    counted, trusting = serve(limits=few, trusted_proxies=NOWHERE), serve(limits=few)
    for served, left in ((counted, 3), (trusting, 8)):
        mine = [connections.enter_context(served.connect()) for _ in range(8)]
        until(partial(all_closed, mine[: 8 - left]))
        assert not any(map(is_closed, mine[8 - left :]))
        assert is_served(served)


def test_address_whose_requests_are_all_underway_gets_no_more_connections(
    serve: Serve, connections: ExitStack
) -> None:
    """And they come to their end."""
    served = serve(limits=Limits(connections_of_address=2), trusted_proxies=NOWHERE)
    raw = stripe_event("evt_1")
    request = post("/webhooks/stripe", raw, signed(raw, STRIPE))
    underway = [connections.enter_context(served.connect()) for _ in range(2)]
    for connection in underway:
        connection.sendall(request[:-1])
    until(lambda: len(served.server.server_state.tasks) == 2)
    with pytest.raises((ConnectionError, BadStatusLine)):
        served.exchange(request)

    for connection in underway:
        connection.sendall(request[-1:])
    assert {read_answer(connection).status for connection in underway} == {200}


class Somebody:
    """A connection as the door sees it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.transport = self
        self.is_closed = False

    def abort(self) -> None:
        """Close it."""
        self.is_closed = True


@pytest.mark.parametrize(
    ("trusted", "address", "is_limited"),
    [
        ("10.0.0.0/8", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.0.0.0/8", "2001:db8::/64", True),
        ("2001:db8::/32", "2001:db8:0:1::/64", False),
        ("::1/128,fc00::/7", "2001:db8::/64", True),
        ("", "127.0.0.1", True),
        ("10.0.0.0/8", "", True),
    ],
)
def test_proxies_are_known_by_their_network(trusted: str, address: str, is_limited: bool) -> None:
    """Of IPv6 whoever has one address has 64 bits of them."""
    networks = [ip_network(network) for network in filter(None, trusted.split(","))]
    door = Door(Limits(connections_of_address=2, trusted=networks))
    people = [Somebody(address) for _ in range(3)]
    let_in = [door.enter(person) for person in people]  # type: ignore[arg-type]

    assert let_in == [True] * 3
    assert people[0].is_closed == is_limited


def test_door_forgets_whoever_left() -> None:
    """Nothing is kept of addresses that are gone, whoever says so twice."""
    door = Door(Limits(connections=2))
    people = [Somebody(f"203.0.113.{number}") for number in range(50)]
    for person in people:
        assert door.enter(person)  # type: ignore[arg-type]
    for person in [*people, *people]:
        door.leave(person)  # type: ignore[arg-type]

    assert door == Door(door.limits, _closed=48, _logged_at=door._logged_at)  # noqa: SLF001


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thousands_of_idle_connections_and_half_sent_requests_keep_no_webhook_out(
    serve: Serve, books: Books, connections: ExitStack
) -> None:
    """As many as once made every webhook a 503: all are stored, and no more connections are left than the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FILES:
        pytest.skip(f"needs {FILES} open files at once")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    served = serve(limits=Limits(connections=3_000))
    strangers: list[socket.socket] = []
    for said, count in ((b"", 4_200), (HEAD, 900)):
        strangers += [connections.enter_context(served.connect()) for _ in range(count)]
        for stranger in strangers[-count:]:
            stranger.sendall(said)
        for number in range(20):
            assert is_served(served, f"evt_{len(strangers)}_{number}")
        assert len(served.server.server_state.connections) <= 3_000

    assert books.value("SELECT count(*) FROM events") == 40
    until(lambda: not served.server.server_state.connections)
    assert all_closed(strangers)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that is asked nothing."""


def test_receiver_is_served_within_limits_by_a_protocol_that_counts(served: Served) -> None:
    """The server's own protocol is the one that is bounded, without upgrades that would leave it."""
    config = served.server.config
    assert config.http_protocol_class.func is BoundedConnection  # type: ignore[attr-defined]
    assert config.ws_protocol_class is None
    with serving(nothing, settings_with()) as other:
        assert 1_000 <= other.server.config.http_protocol_class.keywords["door"].limits.connections <= 6_000  # type: ignore[attr-defined]
