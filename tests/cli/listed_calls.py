"""Calls as Vapi tells them, by webhook and by its list, brought into the books as worker and night do it."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine

from billing import applying, inbox, known_calls, night, repair, runs
from billing.deliveries import identify_vapi
from billing.figures import Finding, Window
from billing.reconcile import SETTLING, Tolerances, find_differences
from billing.reliability import unseen_calls
from billing.runs import Order
from billing.vapi_page import CallColumns, read_columns

Row = dict[str, Any]
CREATED = datetime(2026, 11, 30, 17, 58, 28, tzinfo=UTC)
AS_OF = datetime(2026, 12, 1, 3, tzinfo=UTC)
WINDOW = Window(AS_OF - timedelta(days=2), AS_OF, AS_OF - timedelta(days=5))


def listed(call_id: str, start: timedelta | None = timedelta(seconds=2), seconds: float = 60, **more: Any) -> Row:
    """A row of the list: a web call of the assistant `asst`, which is over and cost something."""
    started = None if start is None else CREATED + start
    row = {
        "id": call_id,
        "type": "webCall",
        "status": "ended",
        "assistantId": "asst",
        "createdAt": stamp(CREATED),
        "updatedAt": stamp(CREATED + timedelta(minutes=10)),
        "startedAt": started and stamp(started),
        "endedAt": started and stamp(started + timedelta(seconds=seconds)),
        "cost": 0.09,
    }
    return {key: value for key, value in (row | more).items() if value is not ...}


def stamp(moment: datetime) -> str:
    """As Vapi writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_report(row: Row) -> Row:
    """What the end-of-call report of a listed call says in `message`."""
    outside = ("startedAt", "endedAt", "cost", "endedReason")
    call = {key: value for key, value in row.items() if key not in {*outside, "status", "updatedAt"}}
    told = {key: row[key] for key in outside if key in row}
    return {"type": "end-of-call-report", "call": call, **told}


def hear(engine: Engine, *messages: Row) -> None:
    """The webhooks arrive."""
    inbox.accept(engine, [identify_vapi(json.dumps({"message": message}).encode()) for message in messages])


def work(engine: Engine) -> Counter[str]:
    """The worker applies what waits; how it ended."""
    return applying.apply(engine, inbox.claim(engine, "worker", 1000))


def tell(engine: Engine, *messages: Row) -> Counter[str]:
    """Both."""
    hear(engine, *messages)
    return work(engine)


def reconcile(engine: Engine, rows: Sequence[Any], *, as_of: datetime = AS_OF) -> list[Finding]:
    """A night that is shown these rows, step by step as its tasks do it; its findings, which are kept."""
    columns, run_id = CallColumns(), uuid4()
    columns.add(read_columns(json.dumps(list(rows)).encode()))
    provider = columns.frame()
    runs.start_run(engine, run_id, Order(WINDOW, as_of), None)
    known = known_calls.load_known_by_id(engine, [str(call_id) for call_id in provider["call_id"].dropna().unique()])
    found = find_differences(
        provider,
        known,
        known_calls.load_routes(engine),
        as_of,
        kept_since=as_of - timedelta(days=14),
        tolerances=Tolerances(),
    )
    unseen = unseen_calls(found, as_of - SETTLING)
    known_calls.keep_first_sights(engine, unseen)
    comparison = night.Comparison(
        found,
        window=WINDOW,
        as_of=as_of,
        reported=known_calls.load_reported(engine, unseen),
        names={},
        completeness=[],
        stops_billing=True,
    )
    recorded = repair.record_calls(engine, comparison.missing, run_id)
    corrected = repair.correct_calls(engine, comparison.drifted, run_id)
    repair.value_calls(engine, comparison.lost)
    findings = night.findings(comparison, recorded, corrected)
    runs.finish_run(engine, run_id, findings, {**FIGURES, "counts": comparison.counts})
    return findings


FIGURES: Row = {
    **dict.fromkeys(("provider_calls", "known_calls", "ended_calls", "ended_by_webhook"), 0),
    **dict.fromkeys(("recovered_calls", "recovered_micros", "outstanding_micros"), 0),
    **dict.fromkeys(("reliability_ratio", "reliability_low", "reliability_high", "cause", "plan", "plan_digest")),
    "money": [],
    "groups": {},
    "completeness": [],
}


def outcomes(findings: Sequence[Finding]) -> dict[str | None, tuple[str, str | None]]:
    """Kind and outcome by call."""
    return {found.call_id: (found.kind, found.outcome) for found in findings}


def organization_named(value: UUID) -> Row:
    """As a web call's metadata says it."""
    return {"metadata": {"org_id": str(value)}}
