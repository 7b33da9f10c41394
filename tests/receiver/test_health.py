"""`GET /health` in each state of what it looks at."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Engine, text

from billing import inbox
from billing.database import open_engine, transaction
from billing.prefect_probe import PrefectProbe
from billing.probe import PATIENCE_SECONDS, STATEMENT_MS
from receiver.health import Health
from tests.books import Books
from tests.databases import Scratch
from tests.loops import TimeFlies
from tests.prefects import prefect_answering
from tests.receiver.conftest import Serve, receiver, send_stripe, settings_with, stripe_event
from tests.receiver.serving import LOOPBACK, until

ALL_UP = {"database": "up", "prefect": "up", "worker": "up", "webhookQueue": "up"}
METRICS = ["waiting", "active", "delayed", "completed", "failed", "paused"]

Change = Callable[[str], None]


@pytest.fixture(scope="module")
def prefect() -> Iterator[str]:
    """The address of a Prefect server that is well."""
    with prefect_answering() as server:
        yield server.api_url


@pytest.fixture
def silence() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def change(owner: Engine) -> Change:
    """Change what no program may change."""

    def execute(statement: str) -> None:
        with transaction(owner) as connection:
            connection.execute(text(statement))

    return execute


@pytest.fixture
def worker(books: Books) -> None:
    """A worker that has just been seen."""
    books.value("SELECT beat_heart('worker-1')")


@contextmanager
def paused(books: Books) -> Iterator[None]:
    """The whole PostgreSQL stands still: it takes connections, and nobody answers on any of them."""
    if "TEST_DATABASE_URL" in os.environ:
        pytest.skip("stopping another's server would stop more than this test")
    server = psutil.Process(books.value("SELECT pg_backend_pid()")).parent()
    family = [server, *server.children()]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def health(served_url: str) -> tuple[int, dict[str, Any]]:
    """Status and body; far more time than a second, since other tests use the processors too."""
    answer = httpx.get(f"{served_url}/health", trust_env=False, timeout=8, verify=False)
    return answer.status_code, answer.json()


def test_health_with_everything_there_is_healthy(serve: Serve, prefect: str, worker: None) -> None:
    """200, and the body that operators' tools read."""
    status, body = health(serve(prefect_api_url=prefect).url)

    assert (status, body["status"], body["services"]) == (200, "healthy", ALL_UP)
    assert list(body) == ["status", "services", "timestamp", "uptime", "queueMetrics", "details"]
    assert body["details"] == {}
    assert list(body["queueMetrics"]) == METRICS
    assert set(body["queueMetrics"].values()) == {0}
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    assert body["uptime"] >= 0


def test_health_asks_an_address_with_a_slash_at_its_end(serve: Serve, prefect: str, worker: None) -> None:
    """People write it both ways."""
    assert health(serve(prefect_api_url=f"{prefect}/").url)[0] == 200


def test_health_without_a_worker_is_unhealthy(serve: Serve, prefect: str) -> None:
    """Webhooks are stored, but nobody applies them."""
    status, body = health(serve(prefect_api_url=prefect).url)

    assert (status, body["status"], body["services"]) == (503, "unhealthy", {**ALL_UP, "worker": "down"})


def test_health_with_a_worker_that_pauses_is_unhealthy_and_says_so(
    serve: Serve, prefect: str, worker: None, books: Books
) -> None:
    """It is there, and what it needs of the database is refused; until it has told that this is over."""
    served = serve(prefect_api_url=prefect)
    answers = []
    for failing in (True, False):
        books.value("SELECT incident FROM note_condition('worker_paused', :failing, '{}')", failing=failing)
        answers.append(health(served.url))

    (status, body), (status_after, body_after) = answers
    assert (status, body["status"], body["services"]) == (503, "unhealthy", {**ALL_UP, "worker": "paused"})
    assert "calltally status" in body["details"]["worker"]
    assert (status_after, body_after["details"]) == (200, {})


def test_health_with_a_worker_that_fell_silent_is_unhealthy(
    serve: Serve, prefect: str, worker: None, change: Change
) -> None:
    """It beats every 5 s; one that was not seen for a while is gone."""
    change("UPDATE workers SET seen_at = now() - interval '21 seconds'")

    assert health(serve(prefect_api_url=prefect).url)[1]["services"] == {**ALL_UP, "worker": "down"}


def test_health_with_one_worker_of_two_is_healthy(
    serve: Serve, prefect: str, worker: None, change: Change, books: Books
) -> None:
    """The other one does the work."""
    change("UPDATE workers SET seen_at = now() - interval '1 day'")
    books.value("SELECT beat_heart('worker-2')")

    assert health(serve(prefect_api_url=prefect).url)[0] == 200


def test_health_without_prefect_is_unhealthy_and_webhooks_are_taken(serve: Serve, worker: None) -> None:
    """Nothing is applied without it, and nothing is lost."""
    served = serve(prefect_api_url=None)

    status, body = health(served.url)

    assert (status, body["services"]) == (503, {**ALL_UP, "prefect": "down"})
    with served.client() as client:
        assert send_stripe(client, stripe_event("evt_1")).status_code == 200


def test_health_with_prefect_refusing_connections_is_unhealthy(serve: Serve, worker: None) -> None:
    """Nobody listens there."""
    assert health(serve(prefect_api_url=f"http://{LOOPBACK}:1/api").url)[1]["services"]["prefect"] == "down"


@pytest.mark.parametrize("status", [404, 500, 503])
def test_health_with_prefect_answering_an_error_is_unhealthy(serve: Serve, worker: None, status: int) -> None:
    """It is there, and not well: 503 is what it says while its own database is gone."""
    with prefect_answering(status) as server:
        body = health(serve(prefect_api_url=server.api_url).url)[1]

    assert body["services"] == {**ALL_UP, "prefect": "down"}


def test_health_does_not_wait_for_a_prefect_that_hangs(serve: Serve, worker: None, silence: int) -> None:
    """The answer comes although Prefect's never does."""
    status, body = health(serve(prefect_api_url=f"http://{LOOPBACK}:{silence}/api").url)

    assert (status, body["services"]) == (503, {**ALL_UP, "prefect": "down"})


def test_health_without_a_database_is_unhealthy_and_has_no_figures(prefect: str) -> None:
    """Unknown is not zero."""
    with receiver(open_engine(f"postgresql://nobody@{LOOPBACK}:1/nothing"), prefect_api_url=prefect) as served:
        status, body = health(served.url)

    assert status == 503
    assert body["services"] == {"database": "down", "prefect": "up", "worker": "down", "webhookQueue": "down"}
    assert body["queueMetrics"] == dict.fromkeys(METRICS)


def test_health_does_not_wait_for_a_database_that_hangs(prefect: str, silence: int) -> None:
    """Not even when it is asked several times."""
    with receiver(open_engine(f"postgresql://nobody@{LOOPBACK}:{silence}/x"), prefect_api_url=prefect) as served:
        for _ in range(2):
            assert health(served.url)[1]["services"]["database"] == "down"


def test_health_waits_less_than_a_second_for_all_that_hangs(silence: int) -> None:
    """Database and Prefect together, whatever the machine is busy with; two slow statements fit into it."""

    async def waited() -> float:
        url = f"postgresql://nobody@{LOOPBACK}:{silence}/x"
        settings = settings_with(prefect_api_url=f"http://{LOOPBACK}:{silence}/api")
        prefect = PrefectProbe(settings)
        health = Health(open_engine(url), settings, prefect)
        begun = asyncio.get_running_loop().time()
        await health.report()
        seconds = asyncio.get_running_loop().time() - begun
        health.close()
        await prefect.close()
        return seconds

    with asyncio.Runner(loop_factory=TimeFlies) as runner:
        assert 0 < runner.run(waited()) < 1
    assert 2 * STATEMENT_MS / 1000 < PATIENCE_SECONDS


@pytest.mark.slow
def test_health_while_everything_hangs_says_so(silence: int) -> None:
    """Neither waits for the other."""
    url = f"postgresql://nobody@{LOOPBACK}:{silence}/x"
    with receiver(open_engine(url), prefect_api_url=f"http://{LOOPBACK}:{silence}/api") as served:
        services = health(served.url)[1]["services"]

    assert services == {"database": "down", "prefect": "down", "worker": "down", "webhookQueue": "down"}


@pytest.mark.slow
def test_health_asked_by_a_crowd_of_a_database_that_hangs_takes_one_connection_and_one_thread(prefect: str) -> None:
    """So nothing runs out, and webhooks find the pool as free as before."""
    with closing(socket.create_server((LOOPBACK, 0), backlog=1000)) as listener:
        port = listener.getsockname()[1]
        with receiver(open_engine(f"postgresql://nobody@{LOOPBACK}:{port}/x"), prefect_api_url=prefect) as served:
            with ThreadPoolExecutor(40) as crowd:
                words = list(crowd.map(lambda _: health(served.url)[1]["services"]["database"], range(40)))
            probes = [thread for thread in threading.enumerate() if thread.name == "probe"]
        listener.setblocking(False)
        listener.accept()[0].close()
        taken = 1
        while True:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                break
            taken += 1

    assert set(words) == {"down"}
    assert len(probes) <= 1
    assert taken <= 3  # one at a time; a slow machine needs several rounds for forty


@pytest.mark.slow
def test_health_of_a_database_that_stands_still_is_down_and_up_again_when_it_goes_on(
    serve: Serve, prefect: str, worker: None, books: Books
) -> None:
    """Connections that were open hang as well; nobody has to restart the receiver."""
    served = serve(prefect_api_url=prefect)
    before = health(served.url)[0]
    with paused(books):
        standing = [health(served.url) for _ in range(2)]

    assert before == 200
    assert [(status, body["services"]["database"]) for status, body in standing] == [(503, "down")] * 2
    until(lambda: health(served.url)[0] == 200)


def test_health_survives_a_restart_of_the_database(serve: Serve, prefect: str, worker: None, change: Change) -> None:
    """Its connection is dead; the first question after that is asked on a new one."""
    served = serve(prefect_api_url=prefect)
    before = health(served.url)[0]
    change(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'calltally probe' AND datname = current_database()"
    )

    assert (before, health(served.url)[0]) == (200, 200)


def test_health_that_cannot_count_in_time_still_says_what_it_knows(
    own_tables: Scratch, serve: Serve, prefect: str, worker: None, change: Change
) -> None:
    """Millions of waiting events take longer to count than anybody may wait: late is not the same as gone."""
    served = serve(prefect_api_url=prefect)
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
    change("UPDATE events SET received_at = now() - interval '1 hour'")
    change(
        "CREATE OR REPLACE FUNCTION queue_metrics() RETURNS TABLE (waiting bigint, active bigint, delayed bigint,"
        " parked bigint, dead bigint, finished bigint, oldest_waiting_at timestamptz)"
        " LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp"
        " AS 'SELECT 0, 0, 0, 0, 0, 0, now() FROM pg_sleep(60)'"
    )

    status, body = health(served.url)

    assert (status, body["services"]) == (503, {**ALL_UP, "webhookQueue": "late"})
    assert body["queueMetrics"] == dict.fromkeys(METRICS)


@pytest.mark.slow
def test_health_names_no_address_and_no_error(silence: int) -> None:
    """Everybody may ask."""
    url = f"postgresql://someone:hush@{LOOPBACK}:{silence}/x"
    with receiver(open_engine(url), prefect_api_url=f"http://{LOOPBACK}:{silence}/api") as served:
        text_of_it = str(health(served.url)[1])

    assert not {word for word in ("hush", "someone", LOOPBACK, str(silence), "Error") if word in text_of_it}


def test_health_with_very_many_finished_events_estimates_them(
    own_tables: Scratch, serve: Serve, prefect: str, worker: None, change: Change
) -> None:
    """Counting millions of finished events would take too long; those that are unfinished are few, and counted."""
    change("UPDATE pg_class SET reltuples = 5000000 WHERE oid = 'events'::regclass")

    status, body = health(serve(prefect_api_url=prefect).url)

    assert (status, body["services"]) == (200, ALL_UP)
    assert body["queueMetrics"] == {**dict.fromkeys(METRICS, 0), "completed": 5_000_000}


@pytest.mark.parametrize(("age", "word", "expected"), [("59 seconds", "up", 200), ("61 seconds", "late", 503)])
def test_health_with_an_event_that_waits_too_long_is_unhealthy(
    serve: Serve, prefect: str, worker: None, change: Change, age: str, word: str, expected: int
) -> None:
    """Silence is noticed before the night."""
    served = serve(prefect_api_url=prefect, health_max_waiting=timedelta(seconds=60))
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
        send_stripe(client, stripe_event("evt_2"))
    change(f"UPDATE events SET received_at = now() - interval '{age}' WHERE delivery_key = 'evt_1'")

    status, body = health(served.url)

    assert (status, body["services"]["webhookQueue"]) == (expected, word)


def test_health_with_an_event_that_a_worker_holds_for_too_long_is_unhealthy(
    serve: Serve, engine: Engine, prefect: str, worker: None, change: Change
) -> None:
    """A worker that hangs is no shorter line."""
    served = serve(prefect_api_url=prefect, health_max_waiting=timedelta(seconds=60))
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
    inbox.claim(engine, "a worker that hangs", 10)
    before = health(served.url)[1]["services"]["webhookQueue"]
    change("UPDATE events SET received_at = now() - interval '61 seconds'")

    assert (before, health(served.url)[1]["services"]["webhookQueue"]) == ("up", "late")


def test_health_with_an_event_that_nobody_tries_again_is_unhealthy(
    serve: Serve, engine: Engine, prefect: str, worker: None, change: Change
) -> None:
    """It failed and was to be tried again, and waits for that as others do in line."""
    served = serve(prefect_api_url=prefect, health_max_waiting=timedelta(seconds=60))
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
    inbox.claim(engine, "a worker that hangs", 10)
    change("UPDATE events SET state = 'delayed', received_at = now() - interval '59 seconds'")
    before = health(served.url)[1]["services"]["webhookQueue"]
    change("UPDATE events SET received_at = now() - interval '61 seconds'")

    assert (before, health(served.url)[1]["services"]["webhookQueue"]) == ("up", "late")


def test_health_counts_every_state_under_its_known_name(serve: Serve, change: Change) -> None:
    """Done and skipped are completed, dead is failed, parked is paused."""
    states = ["waiting", "active", "active", "delayed", "done", "done", "skipped", "dead", "parked", "parked"]
    for number, state in enumerate(states):
        claimed = "gen_random_uuid(), now()" if state in {"active", "delayed"} else "NULL, NULL"
        finished = "now()" if state in {"done", "skipped", "dead"} else "NULL"
        change(
            "INSERT INTO events (provider, delivery_key, type, state, reason, claim_token, lease_until, finished_at)"
            f" VALUES ('stripe', 'evt_{number}', 'ping', '{state}', 'why', {claimed}, {finished})"
        )

    body = health(serve().url)[1]

    assert body["queueMetrics"] == {
        "waiting": 1,
        "active": 2,
        "delayed": 1,
        "completed": 3,
        "failed": 1,
        "paused": 2,
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_health_is_only_read(serve: Serve, method: str) -> None:
    """405."""
    with serve().client() as client:
        assert client.request(method, "/health").status_code == 405
