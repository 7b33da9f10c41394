"""`GET /metrics`: what is counted, what the books say, who may read it, and that nothing hangs."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import Engine

from billing import applying, inbox
from billing.database import open_engine, transaction
from billing.metrics import DATABASE_GAUGES, WORKER, count_runs_from_zero
from billing.prefect_probe import NO_ANSWER, PrefectProbe
from billing.scrapers import asks_from_here
from calltally.metrics import serve_metrics
from calltally.sandbox.signing import VapiBearer
from tests.books import Books
from tests.loops import TimeFlies
from tests.prefects import prefect_answering
from tests.receiver.conftest import Serve, receiver, send_stripe, send_vapi, settings_with, stripe_event, vapi_message
from tests.receiver.serving import LOOPBACK

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(url: str, **headers: str) -> Samples:
    """Every sample of an endpoint, by name and labels."""
    answer = httpx.get(f"{url}/metrics", headers=headers, trust_env=False, timeout=20, verify=False)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float | None:
    """One sample."""
    return samples.get((name, tuple(sorted(labels.items()))))


def status(url: str, **headers: str) -> int:
    """What somebody with these headers is answered."""
    return httpx.get(f"{url}/metrics", headers=headers, trust_env=False, timeout=20, verify=False).status_code


def execute(owner: Engine, statement: str) -> None:
    """Change what no program may change."""
    with transaction(owner) as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def silent_database() -> Iterator[Engine]:
    """It takes connections and never says a word."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        yield open_engine(f"postgresql://nobody@{LOOPBACK}:{listener.getsockname()[1]}/x")


def test_each_request_is_counted_by_what_became_of_it(serve: Serve) -> None:
    """Provider and outcome; those that were stored with their time, and with the commits that they shared."""
    served = serve()
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
        send_vapi(client, vapi_message("call-1"))
        send_vapi(client, vapi_message("call-2"))
        send_vapi(client, vapi_message("call-3"), VapiBearer("wrong"))
        send_vapi(client, b"not JSON")
        send_vapi(client, b"x" * 8_000_001)
    samples = scrape(served.url)
    requests = "calltally_webhook_requests_total"

    assert of(samples, requests, provider="stripe", outcome="stored") == 1
    assert of(samples, requests, provider="vapi", outcome="stored") == 2
    assert of(samples, requests, provider="vapi", outcome="signature_refused") == 1
    assert of(samples, requests, provider="vapi", outcome="unreadable") == 1
    assert of(samples, requests, provider="vapi", outcome="too_large") == 1
    assert of(samples, requests, provider="stripe", outcome="signature_refused") == 0
    assert of(samples, "calltally_webhook_acknowledgement_seconds_count", provider="vapi") == 2
    assert of(samples, "calltally_webhook_commit_deliveries_sum") == 3
    assert of(samples, "calltally_webhook_in_flight") == 0


def test_books_say_how_much_waits_and_who_owes(serve: Serve, books: Books, owner: Engine) -> None:
    """Events, wallets and debts, as they are in the database when somebody asks."""
    organization_id = books.organization("Acme", debt_limit_micros=5_000_000)
    books.organization("Beta", debt_limit_micros=5_000_000)
    books.deduct(organization_id, "call-1", 4_000_000)
    books.deduct(organization_id, "call-2", 3_000_000)
    books.value("SELECT beat_heart('worker-1')")
    served = serve()
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
        send_stripe(client, stripe_event("evt_2"))
    execute(owner, "UPDATE events SET received_at = now() - interval '1 hour' WHERE delivery_key = 'evt_1'")
    samples = scrape(served.url)

    assert of(samples, "calltally_database_up") == 1
    assert of(samples, "calltally_events", provider="stripe", state="waiting") == 2
    assert of(samples, "calltally_events", provider="twilio", state="dead") == 0
    assert of(samples, "calltally_oldest_waiting_event_seconds", provider="vapi") == 0
    assert 3600 <= (of(samples, "calltally_oldest_waiting_event_seconds", provider="stripe") or 0) < 3700
    assert of(samples, "calltally_outstanding_micros", currency="USD") == 3_000_000
    assert of(samples, "calltally_wallet_balance_micros", currency="USD") == -4_000_000
    assert of(samples, "calltally_wallets", currency="USD", state="at_limit") == 1
    assert of(samples, "calltally_wallets", currency="USD", state="low") == 0
    assert of(samples, "calltally_wallets", currency="USD", state="well") == 1
    assert of(samples, "calltally_workers_alive") == 1
    assert of(samples, "calltally_night_completed_timestamp_seconds") is None


def test_last_night_is_that_of_the_whole_reseller(serve: Serve, owner: Engine, books: Books) -> None:
    """Neither a rehearsal, nor a light pass, nor one organization's, nor one that failed."""
    organization_id = books.organization("Acme")
    for state, kind, dry_run, of_one, hours_ago, finished_at in [
        ("completed", "night", False, "NULL", 9, 1_000),
        ("completed", "night", False, "NULL", 8, 2_000),
        ("completed", "night", True, "NULL", 7, 3_000),
        ("completed", "recent", False, "NULL", 6, 4_000),
        ("completed", "night", False, f"'{organization_id}'", 5, 5_000),
        ("failed", "night", False, "NULL", 4, 6_000),
    ]:
        execute(
            owner,
            "INSERT INTO reconciliation_runs (state, kind, dry_run, organization_id, window_from, window_to,"
            " started_at, finished_at, ended_calls, reliability_ratio, recovered_calls, counts, money)"
            f" VALUES ('{state}', '{kind}', {dry_run}, {of_one},"
            f" now() - interval '1 day', now(), now() - interval '{hours_ago} h', to_timestamp({finished_at}),"
            """ 20, 0.9, 2, '{"matched": 18, "missing": 2}', '[{"currency": "EUR", "recovered_micros": 7}]')""",
        )
    samples = scrape(serve().url)

    assert of(samples, "calltally_night_completed_timestamp_seconds") == 2_000
    assert of(samples, "calltally_night_reliability_ratio") == 0.9
    assert of(samples, "calltally_night_recovered_calls") == 2
    assert of(samples, "calltally_night_recovered_micros", currency="EUR") == 7
    assert of(samples, "calltally_night_calls", kind="missing") == 2


def test_open_incidents_are_counted_by_condition(serve: Serve, owner: Engine) -> None:
    """Those that are over are not."""
    execute(
        owner,
        "INSERT INTO incidents (key, severity, facts, closed_at) VALUES ('broken_books', 'critical', '{}', now()),"
        " ('dead_events:vapi:X', 'warning', '{}', NULL), ('dead_events:stripe:X', 'warning', '{}', NULL)",
    )
    samples = scrape(serve().url)

    assert of(samples, "calltally_incidents_open", key="dead_events", severity="warning") == 2
    assert of(samples, "calltally_incidents_open", key="broken_books", severity="critical") is None


def test_every_gauge_of_the_books_can_be_read_and_has_its_labels(serve: Serve, books: Books, engine: Engine) -> None:
    """Each query answers with the columns that the gauge speaks of."""
    with transaction(engine) as connection:
        for gauge in DATABASE_GAUGES:
            columns = set(connection.exec_driver_sql(gauge.query).keys())
            assert columns == {*gauge.labels, "value"}, gauge.name


def test_books_are_looked_at_once_for_scrapes_that_come_together(serve: Serve, books: Books) -> None:
    """Whoever asks often costs the database no more."""
    served = serve()
    first = scrape(served.url)
    books.value("SELECT beat_heart('worker-1')")

    assert of(first, "calltally_workers_alive") == 0
    assert of(scrape(served.url), "calltally_workers_alive") == 0


@pytest.mark.slow
def test_database_that_hangs_costs_its_figures_and_not_the_scrape(silent_database: Engine) -> None:
    """Absent rather than old; what the receiver counts itself is there."""
    with receiver(silent_database) as served:
        samples = scrape(served.url)

    assert of(samples, "calltally_database_up") == 0
    assert of(samples, "calltally_webhook_in_flight") == 0
    assert of(samples, "calltally_workers_alive") is None


@pytest.mark.parametrize(("status", "up"), [(200, 1), (503, 0)])
def test_scrape_says_whether_prefect_is_ready(serve: Serve, status: int, up: int) -> None:
    """Not only whether its process is there; and scrapes that come together ask it once."""
    with prefect_answering(status) as server:
        served = serve(prefect_api_url=server.api_url)
        found = [of(scrape(served.url), "calltally_prefect_up") for _ in range(3)]

    assert found == [up] * 3
    assert server.asked == 1


def test_health_asks_prefect_anew_after_a_scrape(serve: Serve) -> None:
    """Its answer is about now."""
    with prefect_answering() as server:
        served = serve(prefect_api_url=server.api_url)
        scrape(served.url)
        server.status = 503
        answer = httpx.get(f"{served.url}/health", trust_env=False, timeout=20)

    assert answer.json()["services"]["prefect"] == "down"


def test_prefect_without_an_address_is_down(serve: Serve) -> None:
    """As health says it."""
    assert of(scrape(serve().url), "calltally_prefect_up") == 0


def test_prefect_that_hangs_costs_less_than_a_second_and_not_the_scrape() -> None:
    """However many wonder at the same time, it is one connection that hangs."""

    async def asked(url: str) -> tuple[list[str | None], float]:
        prefect = PrefectProbe(settings_with(prefect_api_url=url))
        begun = asyncio.get_running_loop().time()
        answers = await asyncio.gather(prefect.trouble(), *(prefect.trouble(fresh_seconds=5) for _ in range(9)))
        seconds = asyncio.get_running_loop().time() - begun
        await prefect.close()
        return answers, seconds

    with closing(socket.create_server((LOOPBACK, 0))) as listener, asyncio.Runner(loop_factory=TimeFlies) as runner:
        answers, seconds = runner.run(asked(f"http://{LOOPBACK}:{listener.getsockname()[1]}/api"))
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert answers == [NO_ANSWER] * 10
    assert 0 < seconds < 1


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({}, {}, 200),
        ({}, {"X-Forwarded-For": "203.0.113.7"}, 401),
        ({}, {"Via": "1.1 proxy"}, 401),
        ({}, {"X-Envoy-Internal": "true"}, 401),
        ({}, {"Sec-Fetch-Site": "none"}, 401),
        ({}, {"Any-Header-Of-A-Proxy": "1"}, 401),
        ({}, {"Host": "billing.example.com"}, 401),
        ({}, {"Host": "127.0.0.1.example.com"}, 401),
        ({}, {"Host": "localhost:9"}, 200),
        ({}, {"Host": "[::1]:9"}, 200),
        ({}, {"X-Prometheus-Scrape-Timeout-Seconds": "10"}, 200),
        ({"public_url": "https://billing.example.com"}, {}, 401),
        ({"public_url": "http://127.0.0.1:3001"}, {}, 200),
        ({"receiver_host": "0.0.0.0"}, {}, 401),
        ({"receiver_host": "::1"}, {}, 200),
        ({"metrics_token": SecretStr("hush")}, {}, 401),
        ({"metrics_token": SecretStr("hush")}, {"Authorization": "Bearer wrong"}, 401),
        ({"metrics_token": SecretStr("hush")}, {"Authorization": "Bearer hush"}, 200),
        ({"metrics_token": SecretStr("hush"), "receiver_host": "0.0.0.0"}, {"Authorization": "bearer hush"}, 200),
    ],
)
def test_business_figures_are_for_holders_of_the_token_or_for_this_machine(
    serve: Serve, settings: dict[str, Any], headers: dict[str, str], expected: int
) -> None:
    """Without a token, whoever comes from outside or through a proxy is refused."""
    assert status(serve(**settings).url, **headers) == expected


def test_proxy_that_adds_no_header_is_told_by_its_version(serve: Serve) -> None:
    """As a proxy asks that was told nothing but where to go."""
    served = serve()
    asked = f"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:{served.port}\r\nConnection: close\r\n\r\n"

    assert served.exchange(asked.encode()).status == 401


@pytest.mark.parametrize("peer", ["203.0.113.7", "::ffff:203.0.113.7", "10.0.0.1", "", "localhost.example.com"])
def test_only_a_peer_on_this_machine_is_believed(peer: str) -> None:
    """By the connection's own other end."""
    assert asks_from_here(settings_with(), LOOPBACK, "127.0.0.1", "1.1", {"host": "localhost"})
    assert not asks_from_here(settings_with(), LOOPBACK, peer, "1.1", {"host": "localhost"})


def test_metrics_hold_no_secret_and_nothing_of_a_body(serve: Serve, books: Books) -> None:
    """Labels are words of ours."""
    books.organization("Acme Telephones")
    served = serve(metrics_token=SecretStr("hush-token"))
    with served.client() as client:
        send_vapi(
            client, b'{"message":{"type":"end-of-call-report","call":{"id":"call-1"},"number":"+4915112345678"}}'
        )
    answer = httpx.get(f"{served.url}/metrics", headers={"Authorization": "Bearer hush-token"}, trust_env=False)

    assert not {word for word in ("hush", "4915112345678", "call-1", "Acme", "end-of-call") if word in answer.text}


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_worker_answers_prometheus_where_it_was_told_to() -> None:
    """The same rules for the token; nothing but /metrics."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    with serve_metrics(settings_with(worker_metrics_port=port, metrics_token=SecretStr("hush"))) as answered:
        samples = scrape(url, Authorization="Bearer hush")
        refused, elsewhere = status(url), httpx.get(f"{url}/", trust_env=False).status_code

    with serve_metrics(settings_with(worker_metrics_port=port)):
        believed, forwarded = status(url), status(url, Via="1.1 proxy")
    with serve_metrics(settings_with(worker_metrics_port=port, worker_metrics_host="0.0.0.0")):
        anybody = status(url)

    assert answered == port
    assert (believed, forwarded, anybody) == (200, 401, 401)
    assert (refused, elsewhere) == (401, 404)
    assert (of(samples, "process_resident_memory_bytes") or 0) > 1e6
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_worker_works_without_metrics_if_nobody_asked_or_the_port_is_taken() -> None:
    """A second worker on the same machine is no reason to stop."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with (
            serve_metrics(settings_with()) as nowhere,
            serve_metrics(settings_with(worker_metrics_port=port)) as busy,
        ):
            assert (nowhere, busy) == (None, None)


def test_worker_counts_what_it_applied(serve: Serve, engine: Engine, owner: Engine) -> None:
    """Ends, batches, latency since the event was received, and calls by what became of their charge."""

    def now() -> dict[str, float]:
        names = {
            "done": ("calltally_events_applied_total", {"state": "skipped"}),
            "batches": ("calltally_batch_events_count", {}),
            "latency": ("calltally_event_latency_seconds_sum", {"provider": "stripe"}),
        }
        return {key: WORKER.get_sample_value(name, labels) or 0.0 for key, (name, labels) in names.items()}

    with serve().client() as client:
        send_stripe(client, stripe_event("evt_1"))
    for table in ("events", "event_bodies"):
        execute(owner, f"UPDATE {table} SET received_at = received_at - interval '1 hour'")
    before = now()
    applying.apply(engine, inbox.claim(engine, "worker-1", 10))
    after = now()

    assert after["done"] - before["done"] == 1
    assert after["batches"] - before["batches"] == 1
    assert timedelta(hours=1) <= timedelta(seconds=after["latency"] - before["latency"]) < timedelta(hours=2)


def test_flows_are_counted_before_any_has_failed() -> None:
    """A series that begins with its first failure has never increased, so Prometheus would not notice it."""
    count_runs_from_zero(["a_flow"])

    assert WORKER.get_sample_value("calltally_flow_runs_total", {"flow": "a_flow", "state": "failed"}) == 0


def test_event_that_a_worker_holds_and_does_not_end_grows_old_as_well(
    serve: Serve, engine: Engine, owner: Engine
) -> None:
    """A worker that hangs is no shorter line."""
    served = serve()
    with served.client() as client:
        send_stripe(client, stripe_event("evt_1"))
    inbox.claim(engine, "a worker that hangs", 10)
    execute(owner, "UPDATE events SET received_at = now() - interval '1 hour'")

    assert (of(scrape(served.url), "calltally_oldest_waiting_event_seconds", provider="stripe") or 0) >= 3600
