"""The webhook of a call comes before, during or after its repair by a night: one charge, whichever was first."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine

from billing import applying, inbox, repair
from billing.database import rows, transaction
from billing.deliveries import identify_vapi
from billing.vapi import EndedCall
from calltally.sandbox.calls import Call, Route
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_webhooks import end_of_call_report
from tests.books import Books

from .bookkeeping import acme, begin

DAY = datetime(2026, 11, 3, tzinfo=UTC)


def lost_call() -> tuple[Call, EndedCall]:
    """A call at the provider, and as the night reads it from the list."""
    traffic = Traffic(1, (Route(assistant_id="asst"),), DAY, DAY + timedelta(hours=1), never_connected_share=0.0)
    world = VapiWorld(seed=7)
    call = world.place_calls(traffic)[0]
    shown = json.loads(world.body(call.id) or b"")
    facts = msgspec.convert(
        {
            "id": shown["id"],
            "created_at": shown["createdAt"],
            "assistant_id": "asst",
            "started_at": shown["startedAt"],
            "ended_at": shown["endedAt"],
        },
        EndedCall,
    )
    return call, facts


def deliver(engine: Engine, call: Call) -> None:
    """The report arrives and is applied, as a worker does it."""
    inbox.accept(engine, [identify_vapi(end_of_call_report(call).body)])
    applied = applying.apply_batch(engine, inbox.claim(engine, "worker", 10))
    assert applied.failures == []


def wait_for_a_lock(books: Books) -> None:
    """Until somebody waits for a lock in this test's database; that lock itself may belong to none."""
    while not books.rows(
        "SELECT 1 FROM pg_locks AS awaited INNER JOIN pg_locks AS held ON held.pid = awaited.pid"
        " INNER JOIN pg_database ON pg_database.oid = held.database"
        " WHERE NOT awaited.granted AND datname = current_database()"
    ):
        pass


def record_while(
    books: Books, facts: EndedCall, meanwhile: Callable[[], object], *, run_id: UUID | None = None
) -> None:
    """The call is written and not committed yet, by a run or else by its webhook, when the other one comes."""
    with ThreadPoolExecutor(1) as pool:
        with transaction(books.engine) as connection:
            rows(
                connection,
                "SELECT * FROM record_calls(CAST(:calls AS jsonb), :reconciled, :run_id)",
                calls=msgspec.json.encode([facts]).decode(),
                reconciled=run_id is not None,
                run_id=run_id,
            )
            other = pool.submit(meanwhile)
            wait_for_a_lock(books)
        other.result(timeout=30)


@pytest.mark.parametrize("moment", ["before", "applied beside it", "during", "after"])
def test_call_is_charged_once_whenever_its_webhook_comes(books: Books, engine: Engine, moment: str) -> None:
    """Only a webhook that was there first keeps the call from counting as reconciled."""
    organization_id, (call, facts) = acme(books), lost_call()
    run_id = begin(engine)
    match moment:
        case "before":
            deliver(engine, call)
            repair.record_calls(engine, [facts], run_id)
        case "applied beside it":
            record_while(books, facts, lambda: repair.record_calls(engine, [facts], run_id))
        case "during":
            record_while(books, facts, lambda: deliver(engine, call), run_id=run_id)
        case _:
            repair.record_calls(engine, [facts], run_id)
            deliver(engine, call)
    stored = books.rows("SELECT reconciled, webhook_at IS NOT NULL AS arrived FROM calls")[0]

    assert [charge["idempotency_key"] for charge in books.charges(organization_id)] == [f"call:{call.id}"]
    assert len([row for row in books.transfers(organization_id) if row["kind"] == "call"]) == 1
    assert stored == {"reconciled": moment in {"during", "after"}, "arrived": True}
    assert books.broken() == []
