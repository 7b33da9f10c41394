"""A batch decides exactly what its charges would have met one by one."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from billing.database import rows, value
from billing.errors import IdempotencyConflict, UnknownOrganization
from tests.books import Books, Row

REQUEST = """ROW(
    CAST(:organization_id AS uuid), :key, 'call', CAST(:amount AS bigint), '2026-07-01Z'::timestamptz,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
)::charge_request"""
FACTS = """
    (answer).duplicate, (charge).idempotency_key, (charge).state, (charge).accepted, (charge).amount_micros,
    (charge).balance_before_micros, (charge).needs_recharge
"""
Request = tuple[int, int, int]  # wallet, call, amount

REQUESTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 5) | st.integers(0, 2_000)), max_size=40
)


def array_of(count: int) -> str:
    """A batch of that many requests, with parameters numbered by place."""
    parts = []
    for place in range(count):
        part = REQUEST
        for name in ("organization_id", "key", "amount"):
            part = part.replace(f":{name}", f":{name}_{place}")
        parts.append(part)
    return f"ARRAY[{', '.join(parts)}]::charge_request[]"


def facts(source: str) -> str:
    """A query of the facts of each answer."""
    return f"SELECT {FACTS} FROM (SELECT answer, (answer).charge AS charge FROM {source}) AS answered"


def one_by_one(connection: Connection, requests: list[dict[str, Any]]) -> list[Row]:
    """What post_charge answers to each."""
    return [rows(connection, facts(f"post_charge({REQUEST}) AS answer"), **request)[0] for request in requests]


def at_once(connection: Connection, requests: list[dict[str, Any]]) -> list[Row]:
    """What post_charges answers to all."""
    numbered = {f"{name}_{place}": fact for place, request in enumerate(requests) for name, fact in request.items()}
    source = f"post_charges({array_of(len(requests))}) WITH ORDINALITY AS posted (charge, duplicate, place)"
    query = f"SELECT {FACTS.replace('(answer).duplicate', 'duplicate')} FROM {source} ORDER BY place"
    return rows(connection, query, **numbered)


def outcome(connection: Connection, ids: list[UUID]) -> list[Row]:
    """What a history leaves in the books, in the order of its making."""
    return rows(
        connection,
        "SELECT array_position(:ids, organization_id) AS wallet, wallet_sequence, idempotency_key, amount_micros, "
        "balance_after_micros, overrun FROM transfers WHERE organization_id = ANY (:ids) ORDER BY 1, 2",
        ids=ids,
    ) + rows(
        connection,
        "SELECT array_position(:ids, organization_id) AS wallet, balance_micros, last_sequence FROM wallets "
        "WHERE organization_id = ANY (:ids) ORDER BY 1",
        ids=ids,
    )


@given(requests=REQUESTS, limits=st.lists(st.integers(0, 3_000), min_size=3, max_size=3), overrun=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_batch_equals_one_by_one(owner: Books, requests: list[Request], limits: list[int], overrun: bool) -> None:
    """Any batch, at limits, with duplicates, over several wallets: the same answers, transfers and balances."""
    first_amounts: dict[int, tuple[int, int]] = {}
    results = []
    with owner.engine.connect() as connection:
        ids = [
            value(connection, "SELECT create_organization(:n, 'a@b', 'USD', :l)", n=str(uuid4()), l=limit)
            for limit in limits
        ]
        if overrun:
            value(connection, "SELECT set_charge_policy(:id, 'allow_overrun')", id=ids[0])
        named = []
        for wallet, call, amount in requests:
            facts_of_first = first_amounts.setdefault(call, (wallet, amount))
            named.append(
                {"organization_id": ids[facts_of_first[0]], "key": f"call:{call}", "amount": facts_of_first[1]}
            )
        for decide in (one_by_one, at_once):
            with connection.begin_nested() as attempt:
                results.append((decide(connection, named), outcome(connection, ids)))
                attempt.rollback()
        connection.rollback()

    assert results[0] == results[1]


def test_batch_with_other_facts_is_refused_whole(owner: Books) -> None:
    """One conflict takes the whole batch back, whether its first charge is in the batch or in the books."""
    organization_id = owner.organization()
    requests = [{"organization_id": organization_id, "key": f"call:{n % 2}", "amount": n} for n in range(4)]

    with pytest.raises(IdempotencyConflict):
        post(owner, requests)

    assert owner.balance(organization_id) == 0


def test_batch_of_unknown_organization_is_refused_whole(owner: Books) -> None:
    """A charge that nobody can pay for is an error, not a gap."""
    organization_id = owner.organization()
    requests = [{"organization_id": id_, "key": f"call:{id_}", "amount": 1} for id_ in (organization_id, uuid4())]

    with pytest.raises(UnknownOrganization):
        post(owner, requests)

    assert owner.balance(organization_id) == 0


def post(owner: Books, requests: list[dict[str, Any]]) -> None:
    """Post a batch in a transaction of its own."""
    numbered = {f"{name}_{place}": fact for place, request in enumerate(requests) for name, fact in request.items()}
    owner.value(f"SELECT count(*) FROM post_charges({array_of(len(requests))})", **numbered)
