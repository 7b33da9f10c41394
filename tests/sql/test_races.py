"""Many connections at once: real ones, started together by a barrier."""

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.errors import LockNotAvailable

from tests.books import Books, moved, told_call
from tests.messages import looked_up, record

CONNECTIONS = 64
DEDUCT = "SELECT success, duplicate FROM deduct_call_credits(%s, %s, %s)"


class Crowd:
    """Connections that are open and wait for the same start."""

    def __init__(self, url: str, size: int) -> None:
        self.connections = [psycopg.connect(url, options="-c role=calltally_app") for _ in range(size)]
        self.barrier = Barrier(size)
        self.threads = ThreadPoolExecutor(size)

    def at_once(self, work: Callable[[Connection, int], Any]) -> list[Any]:
        """The result of each connection's work, all begun together and each committed at its end."""

        def one(place: int) -> Any:
            connection = self.connections[place]
            self.barrier.wait()
            with connection.transaction():
                return work(connection, place)

        return [done.result() for done in [self.threads.submit(one, n) for n in range(len(self.connections))]]

    def leave(self) -> None:
        """Close everything."""
        self.threads.shutdown()
        for connection in self.connections:
            connection.close()


@pytest.fixture(scope="module")
def crowd(shared_url: str) -> Iterator[Crowd]:
    """As many connections as a busy evening has."""
    crowd = Crowd(shared_url, CONNECTIONS)
    yield crowd
    crowd.leave()


def race_to_the_limit(shared: Books, crowd: Crowd, room_for: int) -> None:
    """64 calls of 1,000 micros meet a wallet with room for some; exactly those succeed."""
    organization_id = shared.organization(debt_limit_micros=1_000 * room_for + 999)
    tag = uuid4().hex

    answers = crowd.at_once(lambda c, n: c.execute(DEDUCT, [organization_id, f"{tag}-{n}", 1_000]).fetchone())

    assert sum(success for success, _ in answers) == room_for
    assert shared.balance(organization_id) == -1_000 * room_for
    assert shared.wallet(organization_id)["outstanding_micros"] == 1_000 * (CONNECTIONS - room_for)


@pytest.mark.parametrize("room_for", [0, 1, 2, 13, 31, 32, 33, 63, 64])
def test_race_to_the_limit_has_exactly_as_many_winners_as_there_is_room(
    shared: Books, crowd: Crowd, room_for: int
) -> None:
    """No schedule lets one call too many through, or keeps one out that fits."""
    race_to_the_limit(shared, crowd, room_for)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_race_to_the_limit_two_hundred_times(shared: Books, crowd: Crowd) -> None:
    """The same for 200 different rooms."""
    for turn in range(200):
        race_to_the_limit(shared, crowd, turn % (CONNECTIONS + 1))


def test_race_of_one_call_is_one_transfer(shared: Books, crowd: Crowd, tag: str) -> None:
    """The same call from 64 connections moves money once, and all get the first answer."""
    organization_id = shared.organization()

    answers = crowd.at_once(lambda c, n: c.execute(DEDUCT, [organization_id, tag, 5]).fetchone())

    assert sorted(answers) == [(True, False)] + [(True, True)] * (CONNECTIONS - 1)
    assert shared.balance(organization_id) == -5


def test_race_of_one_payment_is_one_credit(shared: Books, crowd: Crowd, tag: str) -> None:
    """The same payment from 64 connections is credited once."""
    organization_id = shared.organization()
    query = "SELECT duplicate FROM credit_wallet(%s, 5, %s)"

    answers = crowd.at_once(lambda c, n: c.execute(query, [organization_id, f"topup:{tag}"]).fetchone())

    assert sorted(answers) == [(False,)] + [(True,)] * (CONNECTIONS - 1)


def test_race_of_payments_and_their_refunds_leaves_none_behind(shared: Books, crowd: Crowd, tag: str) -> None:
    """Payments are credited while their refunds are told, in crossing batches: all are booked, without a deadlock."""
    ids = [shared.organization() for _ in range(8)]
    payments = [f"{tag}-{n}" for n in range(16)]

    def work(connection: Connection, place: int) -> None:
        order = random.Random(place).sample(range(16), 16)
        if place % 2:
            batch = ", ".join(refund_of(payments[n]) for n in order)
            connection.execute("SELECT count(*) FROM record_movements(%s::jsonb)", [f"[{batch}]"])
        else:
            batch = ", ".join(payment_of(payments[n], ids[n % 8]) for n in order)
            connection.execute("SELECT count(*) FROM credit_payments(%s::jsonb)", [f"[{batch}]"])

    crowd.at_once(work)

    assert {shared.balance(organization_id) for organization_id in ids} == {6_000_000}


def payment_of(payment_id: str, organization_id: UUID) -> str:
    """A payment of 5 dollars as JSON."""
    return (
        f'{{"payment_id": "{payment_id}", "reference": "{organization_id}", "amount_micros": 5000000, '
        f'"currency": "USD", "event_at": "2026-07-01Z"}}'
    )


def refund_of(payment_id: str) -> str:
    """A refund of 2 dollars as JSON."""
    return json.dumps(moved(payment_id, f"re-{payment_id}", -2_000_000))


def test_race_of_night_and_webhook_charges_once(shared: Books, crowd: Crowd, tag: str) -> None:
    """Half of the connections are the night and half are webhooks: each call is charged once."""
    organization_id = shared.organization(debt_limit_micros=10**12)
    shared.route(organization_id, f"a-{tag}")
    calls = [
        f'{{"id": "{tag}-{n}", "assistant_id": "a-{tag}", "created_at": "2026-07-01Z", '
        f'"started_at": "2026-07-01Z", "ended_at": "2026-07-01 00:01Z"}}'
        for n in range(20)
    ]

    def record(connection: Connection, place: int) -> int:
        batch = f"[{', '.join(random.Random(place).sample(calls, 15))}]"
        answers = connection.execute("SELECT known FROM record_calls(%s::jsonb, %s)", [batch, place % 2 == 0])
        return sum(not known for (known,) in answers)

    assert sum(crowd.at_once(record)) == 20
    assert shared.balance(organization_id) == -700_000 * 20
    stored = "SELECT count(*) FROM calls WHERE organization_id = :id AND (webhook_at IS NULL) > reconciled"
    assert shared.value(stored, id=organization_id) == 0


def test_race_of_crossing_batches_has_no_deadlock(shared: Books, crowd: Crowd, tag: str) -> None:
    """Batches that name the same wallets in any order wait for each other, and none is a deadlock's victim."""
    ids = [shared.organization(debt_limit_micros=10**12) for _ in range(8)]
    for organization_id in ids:
        shared.route(organization_id, f"a-{tag}-{organization_id}")

    def record(connection: Connection, place: int) -> None:
        order = random.Random(place).sample(ids, len(ids))
        batch = ", ".join(call_of(tag, organization_id, place, n) for n, organization_id in enumerate(order))
        connection.execute("SELECT count(*) FROM record_calls(%s::jsonb)", [f"[{batch}]"])

    crowd.at_once(record)

    assert {shared.balance(organization_id) for organization_id in ids} == {-700_000 * CONNECTIONS}


def call_of(tag: str, organization_id: UUID, place: int, number: int) -> str:
    """A call of a minute as JSON."""
    return (
        f'{{"id": "{tag}-{place}-{number}", "assistant_id": "a-{tag}-{organization_id}", '
        f'"created_at": "2026-07-01Z", "started_at": "2026-07-01Z", "ended_at": "2026-07-01 00:01Z"}}'
    )


def test_race_of_route_and_call_leaves_nobody_in_quarantine(shared: Books, crowd: Crowd, tag: str) -> None:
    """While routes appear, calls are recorded; each is charged by the one or by the other."""
    ids = [shared.organization(debt_limit_micros=10**12) for _ in range(CONNECTIONS // 2)]

    def work(connection: Connection, place: int) -> None:
        organization_id = ids[place // 2]
        if place % 2:
            assistant = f"a-{tag}-{organization_id}"
            connection.execute("SELECT add_route(%s, 'assistant', %s)", [organization_id, assistant])
        else:
            batch = f"[{call_of(tag, organization_id, place, 0)}]"
            connection.execute("SELECT count(*) FROM record_calls(%s::jsonb)", [batch])

    crowd.at_once(work)

    assert {shared.balance(organization_id) for organization_id in ids} == {-700_000}


def one_after_the_other(url: str, early: tuple[str, list[Any]], late: tuple[str, list[Any]]) -> None:
    """The late one cannot go on before the early one is committed."""
    with psycopg.connect(url) as first, psycopg.connect(url) as second:
        first.execute(*early)
        second.execute("SET LOCAL lock_timeout = 1")
        with pytest.raises(LockNotAvailable):
            second.execute(*late)
        second.rollback()
        first.commit()
        second.execute(*late)


@pytest.mark.parametrize("first", ["price", "route"])
def test_route_and_first_price_wait_for_each_other_and_charge_the_call(
    shared: Books, shared_url: str, tag: str, first: str
) -> None:
    """Added while the other is not committed, each would miss it, and the call would cost nothing for ever."""
    organization_id = shared.value("SELECT create_organization(:tag, 'a@example.com', 'NOK')", tag=tag)
    shared.record(told_call(f"c-{tag}", f"a-{tag}", 60))
    statements = {
        "price": ("SELECT set_price(%s, 700000)", [organization_id]),
        "route": ("SELECT add_route(%s, 'assistant', %s)", [organization_id, f"a-{tag}"]),
    }
    one_after_the_other(shared_url, statements.pop(first), *statements.values())

    assert shared.states(organization_id) == {f"call:c-{tag}": "settled"}


@pytest.mark.parametrize("first", ["price", "route"])
def test_route_and_first_price_of_messages_wait_for_each_other_and_charge_the_message(
    shared: Books, shared_url: str, tag: str, first: str
) -> None:
    """As with calls."""
    organization_id = shared.value("SELECT create_organization(:tag, 'a@example.com', 'NOK')", tag=tag)
    record(shared, looked_up(f"SM{tag}", "sent", messaging_service_sid=f"MG{tag}"))
    statements = {
        "price": ("SELECT set_sms_price(%s, 20000, '-infinity')", [organization_id]),
        "route": ("SELECT add_route(%s, 'messaging_service', %s)", [organization_id, f"MG{tag}"]),
    }
    one_after_the_other(shared_url, statements.pop(first), *statements.values())

    assert shared.states(organization_id) == {f"sms:SM{tag}": "settled"}
