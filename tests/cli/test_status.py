"""`calltally status`: one screen that tells the truth, whatever is down."""

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine

from billing import applying, inbox
from billing.books import open_books
from billing.deliveries import Delivery
from billing.settings import get_settings
from billing.status import Limits, read_status
from tests import messages
from tests.books import Books, told_call
from tests.databases import Scratch, execute
from tests.prefects import prefect_answering
from tests.receiver.conftest import receiver

from .conftest import Calltally


@pytest.fixture
def nowhere(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither Prefect nor a receiver answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    monkeypatch.setenv("RECEIVER_PORT", str(port))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def night(books: Books) -> UUID:
    """A night that found 23 of 288 calls without a webhook."""
    run_id: UUID = books.value(
        "INSERT INTO reconciliation_runs (state, window_from, window_to, started_at, finished_at, ended_calls,"
        " ended_by_webhook, recovered_calls, recovered_micros, outstanding_micros, cause)"
        " VALUES ('completed', now() - interval '30 h', now() - interval '6 h', now() - interval '6 h',"
        " now() - interval '6 h', 288, 265, 23, 4351666, 4060000, 'assistant a') RETURNING id"
    )
    return run_id


def troubles(screen: dict[str, Any], *, serious: bool = True) -> str:
    """What is wrong, in one text."""
    return "\n".join(trouble["what"] for trouble in screen["troubles"] if trouble["serious"] is serious)


def test_parts_that_are_down_are_named_with_what_to_do(calltally: Calltally, books: Books, nowhere: None) -> None:
    """Only the database is up: exit code 1, and each missing part has its remedy."""
    answer = calltally("status", "--json")
    states = {service["name"]: service["state"] for service in answer.json["services"]}
    text = " ".join(calltally("status").output.split())

    assert answer.exit_code == 1
    assert states == {"database": "up", "worker": "down", "prefect": "down", "receiver": "down"}
    assert all(trouble["fix"] for trouble in answer.json["troubles"])
    assert "3 things wrong" in text
    assert "every invariant holds" in text


@pytest.fixture
def public_receiver(engine: Engine, books: Books, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a receiver that is well, on some other machine."""
    for seconds in ("calltally.probes.SECONDS", "calltally.cli.status.SECONDS"):
        monkeypatch.setattr(seconds, 20.0)  # other tests use the processors too
    books.value("SELECT beat_heart('worker-1')")
    with prefect_answering() as prefect, receiver(engine, prefect_api_url=prefect.api_url) as served:
        yield served.url


def receiver_in(screen: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is said of the receiver, and what is wrong with it."""
    (service,) = (service for service in screen["services"] if service["name"] == "receiver")
    return service, [trouble for trouble in screen["troubles"] if "receiver" in trouble["what"]]


@pytest.mark.usefixtures("nowhere")
def test_receiver_that_is_elsewhere_is_found_by_its_public_address(
    calltally: Calltally, public_receiver: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the container of a worker, where nobody listens on the receiver's port; one that is unwell says why."""
    monkeypatch.setenv("RECEIVER_HOST", "0.0.0.0")
    monkeypatch.setenv("PUBLIC_URL", f"{public_receiver}/")
    get_settings.cache_clear()
    well = receiver_in(calltally("status", "--json").json)
    execute(database_url, "UPDATE workers SET seen_at = now() - interval '1 h'")
    service, (trouble,) = receiver_in(calltally("status", "--json").json)

    assert well == ({"name": "receiver", "state": "up", "detail": f"{public_receiver}/health"}, [])
    assert (service["state"], trouble["what"]) == ("unwell", "the receiver says that it is unwell: worker down")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("public", [None, "nothing there", "no receiver"])
def test_receiver_that_is_nowhere_is_wrong(
    calltally: Calltally, books: Books, monkeypatch: pytest.MonkeyPatch, public: str | None
) -> None:
    """Each address is named, with what to do: also where a proxy or somebody else's page answers."""
    monkeypatch.setenv("RECEIVER_HOST", "0.0.0.0")
    with prefect_answering() as prefect:
        if public is not None:
            somebody = prefect.api_url.removesuffix("/api")
            monkeypatch.setenv("PUBLIC_URL", "http://127.0.0.1:9" if public == "nothing there" else somebody)
        get_settings.cache_clear()
        answer = calltally("status", "--json")
    service, (trouble,) = receiver_in(answer.json)

    assert (answer.exit_code, service["state"], trouble["serious"]) == (1, "down", True)
    assert "http://127.0.0.1:" in trouble["what"]
    assert trouble["what"].count("/health") == (1 if public is None else 2)
    assert "PUBLIC_URL" in trouble["fix"]
    assert ("set PUBLIC_URL" in trouble["fix"]) is (public is None)
    assert ("what answers is no receiver" in trouble["what"]) is (public == "no receiver")


def test_database_that_is_away_hides_nothing_else(
    calltally: Calltally, nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen is there all the same, and says what to check."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:very-secret@127.0.0.1:9/books")
    get_settings.cache_clear()
    answer = calltally("status")

    assert answer.exit_code == 1
    assert "check DATABASE_URL" in answer.output
    assert "not known while the database is down" in answer.output
    assert "very-secret" not in answer.output


def test_queue_nights_and_money_are_shown(calltally: Calltally, books: Books, nowhere: None, night: UUID) -> None:
    """Ages by provider and state, the last night with its interval, wallets at their limit."""
    organization_id = books.organization("Corner Cafe", debt_limit_micros=1_000_000)
    books.route(organization_id, "a")
    books.record(told_call("c", "a", 600))
    inbox.accept(books.engine, [Delivery("vapi", "k", "hang", b"{}"), Delivery("stripe", "k", "x", b"{}")])
    screen = calltally("status", "--json").json
    text = " ".join(calltally("status").output.split())

    assert [(row["provider"], row["state"], row["events"]) for row in screen["queue"]["states"]] == [
        ("stripe", "waiting", 1),
        ("vapi", "waiting", 1),
    ]
    assert screen["night"]["last"]["id"] == str(night)
    assert "92.01 % (95 % interval 88.30 % to 94.61 %) by webhook, 265 of 288" in text
    assert "recovered 23 calls: $4.351666 paid, $4.06 outstanding; 6 h ago" in text
    assert "webhook reliability was 92.01 %, below 95.00 %" in troubles(screen)
    assert "at its limit: Corner Cafe, $0.00 of -$1.00, $7.00 outstanding" in text


def test_messages_of_the_last_day_are_one_line(calltally: Calltally, books: Books, nowhere: None) -> None:
    """How many came to what, and those that cannot be billed yet."""
    none = calltally("status").output
    messages.record(
        books,
        messages.told("SM-1", "sent"),
        messages.looked_up("SM-2", "delivered"),
        messages.looked_up("SM-3", "undelivered", error_code=30003),
    )
    text = " ".join(calltally("status").output.split())

    assert "none in 24 h" in none
    assert ("3 in 24 h: 1 of 2 that ended did not arrive, 1 not measured yet, 3 without an organization") in text


def test_dead_and_late_events_and_failed_nights_are_wrong(
    calltally: Calltally, books: Books, nowhere: None, night: UUID, database_url: str
) -> None:
    """An event that died long ago is only noted: somebody has seen it."""
    for provider in ("stripe", "vapi"):
        inbox.accept(books.engine, [Delivery(provider, "k", "payment_intent.succeeded", b"{}")])
    applying.apply(books.engine, inbox.claim(books.engine, "w", 1))
    inbox.accept(books.engine, [Delivery("stripe", "k2", "payment_intent.succeeded", b"{}")])
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE events SET received_at = now() - interval '7 min' WHERE state = 'waiting'")
    books.value(
        "INSERT INTO reconciliation_runs (state, window_from, window_to, error)"
        " VALUES ('failed', '2026-07-01', '2026-07-02', 'Vapi did not answer') RETURNING 1"
    )
    fresh = calltally("status", "--json").json
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE events SET finished_at = now() - interval '3 d' WHERE state = 'dead'")
    old = calltally("status", "--json").json

    assert "1 event of stripe is dead, 1 since yesterday" in troubles(fresh)
    assert "the oldest waiting event of vapi is 7 min old" in troubles(fresh)
    assert "the last night failed: Vapi did not answer" in troubles(fresh)
    assert "calltally reconcile --from 2026-07-01T00:00:00 --to 2026-07-02T00:00:00" in json.dumps(fresh["troubles"])
    assert "dead" in troubles(old, serious=False)
    assert "dead" not in troubles(old)


def test_parked_events_are_noted_and_wrong_after_an_hour(
    calltally: Calltally, scratch: Scratch, nowhere: None
) -> None:
    """Its payment may just be on the way; later it is money that nobody has."""
    execute(
        scratch.url,
        "INSERT INTO events (provider, delivery_key, type, state, reason)"
        " VALUES ('stripe', 'k', 'refund.created', 'parked', 'payment_not_credited:pi_1')",
    )
    young = calltally("status", "--json").json
    execute(scratch.url, "UPDATE events SET received_at = now() - interval '61 min'")
    old = calltally("status", "--json").json

    assert "1 event of stripe is parked" in troubles(young, serious=False)
    assert "parked" not in troubles(young)
    assert "1 event of stripe is parked, the oldest for 61 min" in troubles(old)


def test_event_in_the_hands_of_a_worker_that_hangs_is_late_as_well(
    calltally: Calltally, scratch: Scratch, nowhere: None
) -> None:
    """Nobody else takes it as long as its lease lasts; nor while it is between two tries."""
    inbox.accept(scratch.engine, [Delivery("vapi", "k", "end-of-call-report", b"{}")])
    inbox.claim(scratch.engine, "w", 1)
    execute(scratch.url, "UPDATE events SET received_at = now() - interval '7 min'")
    claimed = troubles(calltally("status", "--json").json)
    execute(scratch.url, "UPDATE events SET state = 'delayed'")
    delayed = troubles(calltally("status", "--json").json)

    assert "the oldest active event of vapi is 7 min old" in claimed
    assert "the oldest delayed event of vapi is 7 min old" in delayed


def test_broken_books_are_wrong(calltally: Calltally, books: Books, nowhere: None, database_url: str) -> None:
    """The invariant is named."""
    books.organization("Acme")
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE wallets SET balance_micros = 1")

    assert "the books are wrong: stored_balance_equals_transfers" in troubles(calltally("status", "--json").json)


def test_part_that_takes_too_long_hides_nothing_else(books: Books, database_url: str) -> None:
    """Somebody locks the events: the queue is not known, the money is."""
    settings = get_settings()
    limits = Limits(settings.health_max_waiting, settings.reliability_threshold)
    books.organization("Acme")
    with psycopg.connect(database_url) as other, open_books(database_url) as ours:
        other.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        parts = read_status(ours, limits, 0.2)

    assert (parts["queue"].missing, parts["money"].missing) == ("took longer than 0.2 s", None)
    assert parts["money"].facts["currencies"][0]["organizations"] == 1


@pytest.mark.parametrize(
    ("outcome", "minutes", "serious", "words"),
    [
        ("could not alert: Slack answered 404 no_service", 16, True, "Slack answered 404 no_service"),
        (None, 16, True, "nobody has tried to send them"),
        ("could not alert: SLACK_WEBHOOK_URL is not set", 16, False, "is not set"),
        ("held back until 2026-11-18 06:00 UTC by quiet hours", 300, None, ""),
        ("could not alert: TimeoutError", 14, None, ""),
    ],
    ids=["refused", "untried", "not wanted", "quiet hours", "young"],
)
def test_messages_that_do_not_go_out_are_wrong(
    books: Books, database_url: str, outcome: str | None, minutes: int, serious: bool | None, words: str
) -> None:
    """Whatever else is wrong, nobody hears of it; quiet hours hold messages back, and young ones are on their way."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO alerts (key, facts, opened_at, outcome)"
            " VALUES ('k', '{}', now() - %s * interval '1 min', %s)",
            [minutes, outcome],
        )
    with open_books(database_url) as ours:
        found = read_status(ours, Limits(timedelta(minutes=5), Decimal("0.95")))["alerts"].troubles

    assert [(trouble.serious, words in trouble.what) for trouble in found] == (
        [] if serious is None else [(serious, True)]
    )
