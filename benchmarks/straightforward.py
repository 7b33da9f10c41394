"""The night as one would write it down first, the peer of the benchmark `night`.

One page after the other, `json.loads`, two tables compared a row at a time, and for each missing call one INSERT and
one deduction, each in a transaction of its own. It has no proof, no findings and no report to make.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import pandas as pd
from sqlalchemy import Engine, text

from billing.database import rows, transaction

PAGE = 100
PER_MINUTE_MICROS = 700_000
RECORD = """
INSERT INTO calls (id, organization_id, assistant_id, created_at, started_at, ended_at, duration_ms, reconciled)
VALUES (:id, :organization_id, :assistant_id, :created_at, :started_at, :ended_at, :duration_ms, true)
"""
DEDUCT = "SELECT success FROM deduct_call_credits(:organization_id, :id, :amount_micros, :ended_at)"

Row = dict[str, Any]


def reconcile(engine: Engine, client: httpx.Client, before: datetime) -> int:
    """Bill what the list shows from before that time and the books lack; how many calls that were."""
    listed = pd.DataFrame([_row(call) for call in _calls(client, before)])
    with transaction(engine) as connection:
        known = pd.DataFrame(rows(connection, "SELECT id, duration_ms FROM calls"))
        routes = pd.DataFrame(rows(connection, "SELECT external_id, organization_id FROM routes"))
    payers = {route["external_id"]: route["organization_id"] for _, route in routes.iterrows()}
    missing = list(_missing(listed, known))
    for call in missing:
        _bill(engine, {**call, "organization_id": payers[call["assistant_id"]]})
    return len(missing)


def _calls(client: httpx.Client, before: datetime) -> Iterator[Row]:
    """From the newest to the oldest. Calls of the same millisecond may lie on both sides of a page's end."""
    seen: set[str] = set()
    bound = before.isoformat(timespec="milliseconds")
    while True:
        answer = client.get("/call", params={"createdAtLe": bound, "limit": PAGE}).raise_for_status()
        page = json.loads(answer.content, parse_float=Decimal)
        fresh = [call for call in page if call["id"] not in seen]
        yield from fresh
        seen.update(call["id"] for call in fresh)
        if len(page) < PAGE:
            return
        if not fresh:
            raise RuntimeError(f"more than a page of calls at {bound}")
        bound = page[-1]["createdAt"]


def _row(call: Row) -> Row:
    started, ended = pd.Timestamp(call["startedAt"]), pd.Timestamp(call["endedAt"])
    return {
        "id": call["id"],
        "assistant_id": call["assistantId"],
        "created_at": pd.Timestamp(call["createdAt"]),
        "started_at": started,
        "ended_at": ended,
        "duration_ms": (ended - started) // pd.Timedelta("1ms"),
    }


def _missing(listed: pd.DataFrame, known: pd.DataFrame) -> Iterator[Row]:
    durations = {call["id"]: call["duration_ms"] for _, call in known.iterrows()}
    for _, call in listed.iterrows():
        if call["id"] not in durations:
            yield dict(call)
        elif call["duration_ms"] != durations[call["id"]]:
            raise RuntimeError(f"{call['id']} has another duration than the books, which nobody planted")


def _bill(engine: Engine, call: Row) -> None:
    seconds = -(-call["duration_ms"] // 1000)
    amount_micros = int(seconds * PER_MINUTE_MICROS // 60)
    with transaction(engine) as connection:
        connection.execute(text(RECORD), call)
    with transaction(engine) as connection:
        connection.execute(text(DEDUCT), {**call, "amount_micros": amount_micros})
