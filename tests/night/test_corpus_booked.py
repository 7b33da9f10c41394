"""The planted corpus from the provider's HTTP interface to the books: what each class of difference books."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from billing import inbox, repair
from billing.call_frames import concatenated
from billing.database import rows, transaction
from billing.deliveries import Delivery
from billing.figures import Window
from billing.night import Comparison
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.world import Sandbox
from tests.books import Books

from .bookkeeping import begin, compare_frame, everything
from .corpus import HOURS, ROUTES, Corpus, Row, planted
from .listed import ACME, AS_OF, GLOBEX, RETENTION
from .listing import read, settings_of
from .served import Switchboard
from .test_corpus import as_findings

START = AS_OF - timedelta(hours=HOURS + 3)
WINDOW = Window(START, AS_OF, AS_OF - 2 * RETENTION)
"""The books are asked for older calls as well; the list is not."""
JSON = {
    "call_id": "id",
    "created_at": "createdAt",
    "updated_at": "updatedAt",
    "started_at": "startedAt",
    "ended_at": "endedAt",
    "status": "status",
    "call_type": "type",
    "ended_reason": "endedReason",
    "assistant_id": "assistantId",
    "squad_id": "squadId",
    "phone_number_id": "phoneNumberId",
}
BOOKED: dict[str, set[str]] = {
    **{key: {"charge"} for key in ("missing", "report_waiting", "forgotten", "missing_and_listed_again")},
    **{key: {"correction"} for key in ("duration_changed", "several_changed")},
    "unattributed_new": {"quarantine"},
    "unconnected": {"free"},
}
"""What the calls of a class book; those of all others, nothing."""


def as_json(row: Row) -> Row:
    """A row as Vapi writes it; one that cannot be read has a number for a time."""
    if row.get("problem"):
        return {"createdAt": 5} | ({"id": row["call_id"]} if row["call_id"] else {})
    if row["duration_ms"] is not None and row["started_at"] is not None:
        row = row | {"ended_at": row["started_at"] + timedelta(milliseconds=row["duration_ms"])}
    shown = {JSON[name]: row.get(name) for name in JSON}
    shown |= {"orgId": "reseller", "cost": None if row["cost_micros"] is None else row["cost_micros"] / 1_000_000}
    return {
        name: content.isoformat(timespec="milliseconds") if isinstance(content, datetime) else content
        for name, content in shown.items()
        if content is not None
    }


def passes(theirs: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in lists that name each call once: what one pass over the provider's list can show."""
    times: Counter[str] = Counter()
    by_pass: defaultdict[int, list[Row]] = defaultdict(list)
    for row in theirs:
        times[row["call_id"]] += row["call_id"] is not None
        by_pass[times[row["call_id"]]].append(row)
    yield from by_pass.values()


def listed_over_http(switchboard: Switchboard, corpus: Corpus) -> pd.DataFrame:
    """The whole list, read in as many passes as it takes."""
    frames = []
    for rows_of_pass in passes(corpus.theirs):
        sandbox: RunningSandbox = switchboard.show(Sandbox(seed=7, clock=lambda: AS_OF))
        for row in rows_of_pass:
            sandbox.vapi.put_raw(as_json(row), created_at=row.get("created_at") or AS_OF - timedelta(hours=1))
        frames.append(read(settings_of(sandbox), start=START, end=AS_OF))
    return concatenated(frames)


def book_what_we_know(books: Books, engine: Engine, corpus: Corpus) -> None:
    """Two organizations with money, the routes, our calls, and the reports that wait in the inbox.

    Our calls came through routes of their own, so that the books can hold an organization that no route names now.
    """
    organizations = {None: None, ACME: books.organization("Acme"), GLOBEX: books.organization("Globex")}
    for constant, organization_id in organizations.items():
        if organization_id:
            books.credit(organization_id, 10**12, f"topup:{organization_id}")
            books.route(organization_id, f"booked-{constant}")
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE calltally_books")
        for route in ROUTES:
            connection.exec_driver_sql(
                "INSERT INTO routes (kind, external_id, organization_id, valid)"
                " VALUES (%(kind)s, %(external_id)s, %(payer)s, tstzrange(%(valid_from)s, %(valid_to)s))",
                {**route, "payer": organizations[route["organization_id"]]},
            )
    for by_webhook in (True, False):
        ours = [call for call in corpus.ours if call["by_webhook"] == by_webhook]
        books.record(*(as_told(call) for call in ours), reconciled=not by_webhook)
    inbox.accept(
        engine,
        [
            Delivery("vapi", f"{call_id}:end-of-call-report", "end-of-call-report", b"{}")
            for call_id in corpus.reported
        ],
    )


def as_told(call: Row) -> Row:
    """A call of ours as record_calls takes it."""
    times = {name: call[name] and call[name].isoformat() for name in ("created_at", "started_at", "ended_at")}
    return {
        **times,
        "id": call["call_id"],
        "assistant_id": f"booked-{call['organization_id']}",
        "provider_cost_micros": call["cost_micros"],
    }


def night(books: Books, engine: Engine, provider: pd.DataFrame) -> Comparison:
    """Compare and repair."""
    compared = compare_frame(engine, provider, WINDOW)
    repair.record_calls(engine, compared.missing, begin(engine))
    repair.correct_calls(engine, compared.drifted, begin(engine))
    return compared


def charges(books: Books) -> dict[str, Any]:
    """By key."""
    return {row["idempotency_key"]: row for row in books.rows("SELECT * FROM charges")}


def booked(books: Books, known: set[str], before: set[str]) -> dict[str, set[str]]:
    """What the night wrote, by class: calls that were unknown, and charges that were not there."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for call in books.rows("SELECT id, organization_id FROM calls"):
        if call["id"] not in known and call["organization_id"] is None:
            found[call["id"].rpartition("-")[0]].add("quarantine")
    for key, charge in charges(books).items():
        if key not in before:
            kind = "free" if charge["state"] == "free" else {"call": "charge"}.get(charge["kind"], charge["kind"])
            found[key.split(":")[1].rpartition("-")[0]].add(kind)
    return found


def sums(books: Books) -> dict[str, int]:
    """What each call costs in the books, corrections included."""
    found: Counter[str] = Counter()
    for key, charge in charges(books).items():
        found[key.split(":")[1]] += charge["amount_micros"]
    return found


def prices(engine: Engine, durations: dict[str, int]) -> dict[str, int]:
    """What calls of so many milliseconds cost."""
    with transaction(engine) as connection:
        answer = rows(
            connection,
            "SELECT id, billed_amount_micros(billed_seconds(ms, 1, 0, 0), 700000) AS micros"
            " FROM unnest(CAST(:ids AS text[]), CAST(:durations AS bigint[])) AS told (id, ms)",
            ids=list(durations),
            durations=list(durations.values()),
        )
    return {row["id"]: row["micros"] for row in answer}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_class_books_what_it_should_and_a_rerun_nothing(
    books: Books, engine: Engine, switchboard: Switchboard
) -> None:
    """Over HTTP, through the comparison, into the ledger: a charge, a correction, a quarantine, or nothing at all."""
    corpus = planted(1)
    book_what_we_know(books, engine, corpus)
    known, before = {call["call_id"] for call in corpus.ours}, set(charges(books))
    compared = night(books, engine, listed_over_http(switchboard, corpus))
    after = everything(books)
    found = compared.differences.set_index("call_id")
    changed = found["kind"].isin(["missing", "drift"]) & found["duration_ms"].notna()
    durations = {str(call_id): int(ms) for call_id, ms in found.loc[changed, "duration_ms"].items()}

    assert as_findings(compared.differences) == corpus.expected
    assert {call.id for call in compared.lost} == corpus.lost
    assert booked(books, known, before) == BOOKED
    assert {call_id: sums(books)[call_id] for call_id in durations} == prices(engine, durations)
    assert books.broken() == []

    again = night(books, engine, listed_over_http(switchboard, corpus))
    assert everything(books) == after
    assert again.reliability == compared.reliability
