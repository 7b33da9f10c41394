"""The database goes, comes back, is full, or is slow; the receiver is told to stop."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from billing.database import open_engine, transaction
from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres
from tests.books import Books
from tests.databases import Scratch
from tests.receiver.conftest import (
    STRIPE,
    Serve,
    receiver,
    send_stripe,
    send_vapi,
    signed,
    stripe_event,
    vapi_message,
)
from tests.receiver.serving import Served, post, until

TRY_AGAIN = b'{"error": "try again later"}'


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped."""
    folder: Path = tmp_path_factory.mktemp("outages")
    server = EmbeddedPostgres(folder / "pg", options={"fsync": "off", "full_page_writes": "off"})
    server.start()
    server.ensure_database("calltally")
    migrate(server.url())
    yield server
    server.stop("immediate")


@pytest.fixture
def stoppable(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """Connections to it."""
    postgres.start()
    engine = open_engine(postgres.url())
    yield engine
    engine.dispose()


def assert_sent_away(answer: httpx.Response) -> None:
    """503, and when to come again."""
    assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (503, TRY_AGAIN, "5")


def test_delivery_while_the_database_is_away_is_sent_away_and_taken_later(
    postgres: EmbeddedPostgres, stoppable: Engine
) -> None:
    """The provider's next attempt succeeds, without anybody restarting the receiver."""
    with receiver(stoppable) as served, served.client() as client:
        assert send_stripe(client, stripe_event("evt_away_1")).status_code == 200
        postgres.stop("immediate")

        assert_sent_away(send_stripe(client, stripe_event("evt_away_2")))
        assert client.post("/webhooks/stripe", content=b"{}").status_code == 401

        postgres.start()
        assert send_stripe(client, stripe_event("evt_away_2")).status_code == 200

    stored = Books(stoppable).rows("SELECT deliveries FROM events WHERE delivery_key LIKE 'evt_away_%'")
    assert stored == [{"deliveries": 1}] * 2


def test_delivery_after_a_restart_of_the_database_is_taken_at_once(
    postgres: EmbeddedPostgres, stoppable: Engine
) -> None:
    """The connections of before are dead; Vapi, which does not come again, must not be the one to find out."""
    with receiver(stoppable) as served, served.client() as client:
        assert send_vapi(client, vapi_message("restart-1")).status_code == 200
        postgres.stop("fast")
        postgres.start()

        assert send_vapi(client, vapi_message("restart-2")).status_code == 200


@pytest.mark.slow
def test_receiver_starts_without_a_database_and_serves_when_it_is_there(
    postgres: EmbeddedPostgres, stoppable: Engine
) -> None:
    """The order in which things start does not matter."""
    postgres.stop("fast")
    with receiver(stoppable) as served, served.client() as client:
        assert_sent_away(send_stripe(client, stripe_event("evt_start")))
        postgres.start()
        assert send_stripe(client, stripe_event("evt_start")).status_code == 200


@pytest.mark.slow
def test_full_disk_sends_deliveries_away_until_there_is_room(
    own_tables: Scratch, serve: Serve, owner: Engine, books: Books
) -> None:
    """An INSERT that is refused for want of space is an outage, not a bad delivery."""
    with transaction(owner) as connection:
        connection.execute(
            text(
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$"
            )
        )
        connection.execute(text("CREATE TRIGGER disk_full BEFORE INSERT ON events EXECUTE FUNCTION no_room()"))
    with serve().client() as client:
        assert_sent_away(send_stripe(client, stripe_event("evt_1")))
        assert books.value("SELECT count(*) FROM events") == 0

        with transaction(owner) as connection:
            connection.execute(text("DROP TRIGGER disk_full ON events"))
        assert send_stripe(client, stripe_event("evt_1")).status_code == 200

    assert books.value("SELECT count(*) FROM events") == 1


def test_delivery_that_the_database_refuses_is_sent_away_and_others_are_taken(
    own_tables: Scratch, serve: Serve, owner: Engine
) -> None:
    """It is not lost: its sender has it, and the log says why."""
    with transaction(owner) as connection:
        connection.execute(text("ALTER TABLE events ADD CHECK (delivery_key <> 'evt_bad')"))
    with serve().client() as client:
        assert_sent_away(send_stripe(client, stripe_event("evt_bad")))
        assert send_stripe(client, stripe_event("evt_good")).status_code == 200


def test_requests_accepted_before_a_shutdown_are_all_answered_and_stored(
    serve: Serve, owner: Engine, books: Books
) -> None:
    """SIGTERM arrives while the first INSERT waits for a lock and the others wait for it."""
    served, count = serve(), 20
    with served.client() as client, ThreadPoolExecutor(count) as senders, owner.connect() as lock:
        lock.execute(text("LOCK TABLE events"))
        sending = [senders.submit(send_stripe, client, stripe_event(f"evt_{number}")) for number in range(count)]
        until(lambda: len(served.server.server_state.tasks) == count)

        served.begin_shutdown()
        until(lambda: not served.server.servers or not served.server.servers[0].is_serving())
        lock.rollback()

        assert [each.result().status_code for each in sending] == [200] * count
    served.shut_down()
    assert books.value("SELECT count(*) FROM events") == count
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=5)


def test_sender_that_hangs_up_before_the_answer_is_stored_all_the_same(
    served: Served, owner: Engine, books: Books
) -> None:
    """Its delivery came whole; if it comes again, it is counted."""
    raw = stripe_event("evt_1")
    with owner.connect() as lock:
        lock.execute(text("LOCK TABLE events"))
        with served.connect() as connection:
            connection.sendall(post("/webhooks/stripe", raw, signed(raw, STRIPE)))
            until(lambda: books.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        lock.rollback()
    until(lambda: not served.server.server_state.tasks)

    assert books.value("SELECT deliveries FROM events") == 1
    with served.client() as client:
        assert send_stripe(client, raw).status_code == 200
    assert books.value("SELECT deliveries FROM events") == 2


def test_two_receivers_on_one_database_store_the_same_deliveries_once(serve: Serve, books: Books) -> None:
    """Run as many as you like: the same keys at the same time, in opposite orders, block nobody."""
    numbers = list(range(30))
    with serve().client() as one, serve().client() as other, ThreadPoolExecutor(8) as senders:
        sending = [
            senders.submit(send_stripe, client, stripe_event(f"evt_{number}"))
            for pair in zip(numbers, reversed(numbers), strict=True)
            for client, number in zip((one, other), pair, strict=True)
        ]
        assert {each.result().status_code for each in sending} == {200}

    assert books.value("SELECT count(*) FROM events") == 30
    assert books.value("SELECT sum(deliveries)::integer FROM events") == 60
