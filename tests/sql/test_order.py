"""The same events in any order, with duplicates, over several connections, lead to the same books.

What may depend on the order: which of two calls found room below the debt limit and which is owed; with it the
answers (`success`, balances before and after), the sequence of transfers and the balance beside each. What may not:
balance less debt, every credit and refund, what each call costs, and, once enough money has come in to pay for
everything, all of it.
"""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb

from tests.books import Books, moved, told_call

WORKERS = 4
Event = Callable[[Connection], Any]


def statement(query: str, *arguments: object) -> Event:
    """An event that is one statement in one transaction."""

    def apply(connection: Connection) -> None:
        with connection.transaction():
            connection.execute(query.encode(), arguments)

    return apply


def history(organization_id: UUID, tag: str, topup_micros: int) -> list[Event]:
    """Eight calls, two payments, a refund, a dispute that is won, each as its webhook would bring it."""
    calls = [
        statement(
            "SELECT count(*) FROM record_calls(%s::jsonb, %s)",
            Jsonb([told_call(f"{tag}-{n}", f"a-{tag}", 60 + 60 * n)]),
            n % 3 == 0,
        )
        for n in range(8)
    ]
    credit = "SELECT * FROM credit_wallet(%s, %s, %s)"
    return [
        *calls,
        statement(credit, organization_id, topup_micros, f"topup:{tag}-1"),
        statement(credit, organization_id, 3_000_000, f"topup:{tag}-2"),
        *(
            statement("SELECT * FROM record_movements(%s)", Jsonb([movement]))
            for movement in (
                moved(f"{tag}-2", f"{tag}-re", -1_000_000),
                moved(f"{tag}-1", f"{tag}-out", -2_000_000, f"{tag}-dp"),
                moved(f"{tag}-1", f"{tag}-back", 2_000_000, f"{tag}-dp"),
            )
        ),
    ]


def play(url: str, events: list[Event]) -> None:
    """Apply events over several connections."""

    def work(share: list[Event]) -> None:
        with psycopg.connect(url, options="-c role=calltally_app", autocommit=True) as connection:
            for event in share:
                event(connection)

    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(work, [events[place::WORKERS] for place in range(WORKERS)]))


def play_shuffled(shared: Books, url: str, seed: int, topup_micros: int) -> dict[str, Any]:
    """The books after one order of the history, in which a third of the events come twice."""
    chance, tag = random.Random(seed), uuid4().hex
    organization_id = shared.organization()
    shared.route(organization_id, f"a-{tag}")
    events = history(organization_id, tag, topup_micros)
    told = events + chance.sample(events, len(events) // 3)
    chance.shuffle(told)

    play(url, told)

    wallet = shared.wallet(organization_id)
    charges = shared.charges(organization_id)
    transfers = shared.transfers(organization_id)
    return {
        "balance": wallet["balance_micros"],
        "outstanding": wallet["outstanding_micros"],
        "states": [charge["state"] for charge in charges],
        "costs": [charge["amount_micros"] for charge in charges],
        "not usage": sorted((row["kind"], row["amount_micros"]) for row in transfers if row["kind"] != "call"),
    }


@pytest.mark.parametrize("turns", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_order_of_paid_history_does_not_matter(shared: Books, shared_url: str, turns: int) -> None:
    """When the money suffices in the end, every order leads to the very same books."""
    results = [play_shuffled(shared, shared_url, seed, 30_000_000) for seed in range(turns)]

    assert results[0]["states"] == ["settled"] * 8
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("turns", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_order_of_unpaid_history_decides_only_who_is_owed(shared: Books, shared_url: str, turns: int) -> None:
    """When it does not suffice, balance less debt, costs, credits and refunds are the same in every order."""
    results = [play_shuffled(shared, shared_url, seed, 4_000_000) for seed in range(turns)]

    for result in results:
        assert result["outstanding"] > 0
        assert result["balance"] - result["outstanding"] == results[0]["balance"] - results[0]["outstanding"]
        assert (result["costs"], result["not usage"]) == (results[0]["costs"], results[0]["not usage"])
