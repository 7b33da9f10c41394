"""Postgres crashes while webhooks are accepted and applied: nothing accepted is lost, and each is applied once."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Engine

from billing import inbox
from billing.database import open_engine
from billing.errors import TransientError
from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres
from tests.databases import opened

from .story import Story, payment, report, work

SENDERS = 3
WORKERS = 2
BETWEEN_STOPS = 40
"""Webhooks that have been applied since the last stop, so that the next one comes in the middle of the load."""


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A private, durable cluster of our own to stop."""
    with tempfile.TemporaryDirectory(prefix="calltally-stop-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        server.start()
        server.ensure_database("stops")
        migrate(server.url("stops"))
        yield server
        server.stop("immediate")


@pytest.fixture
def story(server: EmbeddedPostgres) -> Iterator[Story]:
    """An organization with more money than its calls cost."""
    with opened(server.url("stops")) as scratch:
        yield Story(scratch)


def send(engine: Engine, organization_id: str, sender: int, over: Event) -> list[str]:
    """Deliver calls and payments until told to stop, each again until it is acknowledged; the keys of those."""
    acknowledged: list[str] = []
    while not over.is_set():
        name = f"{sender}-{len(acknowledged)}"
        told = payment(f"pi_{name}", organization_id) if len(acknowledged) % 7 == 0 else [report(name)]
        while not over.is_set():
            with suppress(TransientError):
                inbox.accept(engine, told)
                acknowledged += [delivery.key for delivery in told]
                break
            over.wait(0.02)
        over.wait(0.005)
    return acknowledged


def apply(engine: Engine, over: Event) -> None:
    """Apply what waits until told to stop, through whatever becomes of the server."""
    while not over.is_set():
        with suppress(TransientError):
            work(engine)
        over.wait(0.01)


def done(story: Story) -> int:
    """How many events are done."""
    count: int = story.books.value("SELECT count(*) FROM events WHERE state = 'done'")
    return count


def stop_in_the_middle(server: EmbeddedPostgres, story: Story) -> None:
    """An immediate stop once enough has been applied since the last one, and a start."""
    before, waiting = done(story), Event()
    while done(story) < before + BETWEEN_STOPS:
        waiting.wait(0.02)
    server.stop("immediate")
    server.start()
    for engine in (story.engine, story.owner.engine):
        engine.dispose()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("times", [10])
def test_immediate_stops_lose_nothing_accepted_and_apply_nothing_twice(
    server: EmbeddedPostgres, story: Story, times: int
) -> None:
    """Every acknowledged webhook is done in the end, has moved its money once, and the books are right."""
    organization_id, over = str(story.open_wallet(micros=10_000_000_000)), Event()
    engine = open_engine(server.url("stops"))
    with ThreadPoolExecutor(SENDERS + WORKERS) as pool:
        workers = [pool.submit(apply, engine, over) for _ in range(WORKERS)]
        senders = [pool.submit(send, engine, organization_id, sender, over) for sender in range(SENDERS)]
        try:
            for _ in range(times):
                stop_in_the_middle(server, story)
        finally:
            over.set()
    for worker in workers:
        worker.result()
    acknowledged = {key for sender in senders for key in sender.result()}
    engine.dispose()
    story.lose_leases()
    work(story.engine)
    booked = [
        row["idempotency_key"] for row in story.books.rows("SELECT * FROM transfers WHERE kind IN ('call', 'topup')")
    ]
    states = story.states()

    assert len(acknowledged) >= times * BETWEEN_STOPS
    assert acknowledged <= states.keys()
    assert set(states.values()) == {"done"}
    assert len(booked) == len(set(booked))
    assert len(booked) == 1 + len({key.rsplit("_", 1)[0] for key in states})  # a payment has two events
    assert story.books.broken() == []
