"""Requests that wait at the same time share one INSERT; none is lost, and none waits for ever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event, text
from starlette.applications import Starlette
from starlette.routing import Route

from billing import inbox
from billing.database import transaction
from billing.deliveries import Delivery
from receiver.inbox_writer import MAX_BATCH_BYTES, InboxWriter, StoreUnavailable
from receiver.webhooks import WebhookEndpoint, providers
from tests.books import Books
from tests.databases import Scratch
from tests.receiver.conftest import STRIPE, Serve, send_stripe, settings_with, signed, stripe_event
from tests.receiver.serving import serving, until


def delivery(number: int, size: int = 2) -> Delivery:
    """One delivery of Stripe's."""
    return Delivery("stripe", f"evt_{number}", "ping", b"x" * size)


@contextmanager
def statements_counted(engine: Engine) -> Iterator[list[int]]:
    """How many deliveries each INSERT of the inbox held."""
    sizes: list[int] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "accept_events" in statement:
            sizes.append(len(parameters["keys"]))

    event.listen(engine, "before_cursor_execute", note)
    yield sizes
    event.remove(engine, "before_cursor_execute", note)


def run_with(writer: InboxWriter, work: Callable[[], Awaitable[None]]) -> None:
    """Run this while the writer writes."""

    async def whole() -> None:
        writer.start()
        try:
            await work()
        finally:
            await writer.drain()

    asyncio.run(whole())


class Gate:
    """An accept that stores nothing until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.batches: list[int] = []

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Note the batch and wait."""
        self.batches.append(len(deliveries))
        self.entered.set()
        assert self.opened.wait(20)

    async def fill(self, first: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Let one delivery in, and return once it is being written."""
        task = asyncio.create_task(first)
        await asyncio.to_thread(self.entered.wait, 20)
        return task


def test_lone_delivery_waits_for_nobody(engine: Engine, books: Books) -> None:
    """One statement each when they come one after the other."""
    writer = InboxWriter(partial(inbox.accept, engine))

    async def one_after_the_other() -> None:
        for number in range(3):
            await writer.store(delivery(number))
            assert await asyncio.to_thread(books.value, "SELECT count(*) FROM events") == number + 1

    with statements_counted(engine) as sizes:
        run_with(writer, one_after_the_other)
    assert sizes == [1, 1, 1]


def test_deliveries_that_come_together_share_one_insert(engine: Engine, books: Books) -> None:
    """Two hundred of them, one fsync."""
    writer = InboxWriter(partial(inbox.accept, engine))

    async def all_at_once() -> None:
        await asyncio.gather(*(writer.store(delivery(number)) for number in range(200)))

    with statements_counted(engine) as sizes:
        run_with(writer, all_at_once)
    assert sizes == [200]
    assert books.value("SELECT count(*) FROM events") == 200


def test_deliveries_that_come_during_an_insert_share_the_next_one() -> None:
    """Whoever arrives while the first is written waits for that one only."""
    gate = Gate()
    writer = InboxWriter(gate.accept)

    async def one_and_then_many() -> None:
        first = await gate.fill(writer.store(delivery(0)))
        others = [asyncio.create_task(writer.store(delivery(number))) for number in range(1, 50)]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *others)

    run_with(writer, one_and_then_many)
    assert gate.batches == [1, 49]


def test_large_deliveries_are_stored_in_several_inserts() -> None:
    """So that no statement grows without bound; one that is larger than all goes alone."""
    gate = Gate()
    gate.opened.set()
    writer = InboxWriter(gate.accept)
    half = MAX_BATCH_BYTES // 2

    async def all_at_once() -> None:
        sizes = (half, half, half, 2 * MAX_BATCH_BYTES, 1)
        await asyncio.gather(*(writer.store(delivery(number, size)) for number, size in enumerate(sizes)))

    run_with(writer, all_at_once)
    assert gate.batches == [2, 1, 1, 1]


def test_same_delivery_twice_in_one_insert_is_counted_twice(engine: Engine, books: Books) -> None:
    """A provider may repeat itself within a millisecond."""
    writer = InboxWriter(partial(inbox.accept, engine))

    async def twice() -> None:
        await asyncio.gather(writer.store(delivery(1)), writer.store(delivery(1)), writer.store(delivery(2)))

    run_with(writer, twice)
    assert books.rows("SELECT delivery_key, deliveries FROM events ORDER BY 1") == [
        {"delivery_key": "evt_1", "deliveries": 2},
        {"delivery_key": "evt_2", "deliveries": 1},
    ]


@pytest.mark.parametrize(("deliveries", "size"), [(3, 1_000), (1_000, 6)])
def test_full_queue_sends_the_next_away_and_keeps_those_in_it(deliveries: int, size: int) -> None:
    """By number or by bytes: memory does not grow with what cannot be stored."""
    gate = Gate()
    writer = InboxWriter(gate.accept, max_waiting=deliveries, max_waiting_bytes=size)

    async def too_many() -> None:
        first = await gate.fill(writer.store(delivery(0)))
        waiting = [asyncio.create_task(writer.store(delivery(number))) for number in range(1, 4)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await writer.store(delivery(4))
        gate.opened.set()
        await asyncio.gather(first, *waiting)
        await writer.store(delivery(5))

    run_with(writer, too_many)
    assert gate.batches == [1, 3, 1]


def test_delivery_that_waits_too_long_is_sent_away_and_may_still_be_stored() -> None:
    """Its sender comes again, and is counted then."""
    gate = Gate()
    writer = InboxWriter(gate.accept, patience_seconds=0.05)

    async def impatient() -> None:
        with pytest.raises(StoreUnavailable):
            await writer.store(delivery(0))
        gate.opened.set()

    run_with(writer, impatient)
    assert gate.batches == [1]


def test_draining_stores_what_waits_and_takes_nothing_more() -> None:
    """Accepted is accepted."""
    gate = Gate()
    writer = InboxWriter(gate.accept)

    async def drained() -> None:
        first = await gate.fill(writer.store(delivery(0)))
        waiting = asyncio.create_task(writer.store(delivery(1)))
        await asyncio.sleep(0)
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await writer.store(delivery(2))
        gate.opened.set()
        await asyncio.gather(first, waiting, draining)

    async def alone() -> None:
        writer.start()
        await drained()

    asyncio.run(alone())
    assert gate.batches == [1, 1]


def test_delivery_that_cannot_be_stored_fails_alone(
    own_tables: Scratch, engine: Engine, books: Books, owner: Engine
) -> None:
    """Its neighbours in the same INSERT are stored."""
    with transaction(owner) as connection:
        connection.execute(text("ALTER TABLE events ADD CONSTRAINT no_seven CHECK (delivery_key <> 'evt_7')"))
    writer = InboxWriter(partial(inbox.accept, engine))
    outcomes: list[BaseException | None] = []

    async def all_at_once() -> None:
        stores = (writer.store(delivery(number)) for number in range(16))
        outcomes.extend(await asyncio.gather(*stores, return_exceptions=True))

    run_with(writer, all_at_once)
    assert [type(outcome) for outcome in outcomes if outcome] == [StoreUnavailable]
    assert isinstance(outcomes[7], StoreUnavailable)
    assert books.value("SELECT count(*) FROM events") == 15


def test_requests_at_the_same_time_share_inserts(serve: Serve, engine: Engine, owner: Engine) -> None:
    """Over HTTP: while the first INSERT waits for a lock, the others gather for the second."""
    served = serve()
    count = 40

    async def send_all() -> list[int]:
        async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=20) as client:
            bodies = [stripe_event(f"evt_{number}") for number in range(count)]
            sending = [
                asyncio.create_task(client.post("/webhooks/stripe", content=raw, headers=signed(raw, STRIPE)))
                for raw in bodies
            ]
            await asyncio.to_thread(until, lambda: len(served.server.server_state.tasks) == count)
            lock.rollback()
            return [answer.status_code for answer in await asyncio.gather(*sending)]

    with statements_counted(engine) as sizes, owner.connect() as lock:
        lock.execute(text("LOCK TABLE events"))
        statuses = asyncio.run(send_all())

    assert statuses == [200] * count
    assert sum(sizes) == count
    assert len(sizes) <= 3


def test_full_queue_is_answered_with_503_and_when_to_come_again() -> None:
    """Those in the queue are answered when the database takes them, and so is who comes again."""
    gate = Gate()
    writer = InboxWriter(gate.accept, max_waiting=1)
    stripe, *_ = providers(settings_with())

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        writer.start()
        yield
        await writer.drain()

    route = Route("/webhooks/stripe", WebhookEndpoint(stripe, writer), methods=["POST"])
    with (
        serving(Starlette(routes=[route], lifespan=lifespan), settings_with()) as served,
        ThreadPoolExecutor(2) as others,
        served.client() as client,
    ):
        written = others.submit(send_stripe, client, stripe_event("evt_1"))
        assert gate.entered.wait(20)
        waiting = others.submit(send_stripe, client, stripe_event("evt_2"))
        until(lambda: len(served.server.server_state.tasks) == 2)

        refused = send_stripe(client, stripe_event("evt_3"))
        gate.opened.set()
        taken = [written.result().status_code, waiting.result().status_code]
        again = send_stripe(client, stripe_event("evt_3"))

        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert [*taken, again.status_code] == [200] * 3
