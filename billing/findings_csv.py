"""A night's findings as a table for a spreadsheet."""

import csv
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, TextIO

import pandas as pd

from billing.figures import Finding, Night
from billing.literal import in_spreadsheet
from billing.money import ONE_MICRO
from billing.night_report import currency_of, detail_of, organization_of, what_was_done

COLUMNS = (
    *("finding", "call_id", "organization", "organization_id", "ended_at_utc", "assistant_id", "done"),
    *("currency", "amount", "amount_micros", "provider_cost_usd", "provider_cost_micros", "detail"),
)
FACTS = ["ended_at", "ended_at_known", "created_at", "assistant_id", "cost_micros", "cost_micros_known"]


def write_findings(night: Night, differences: pd.DataFrame, file: TextIO) -> None:
    """One row per finding, in their order. Text that a spreadsheet would take for a formula gets an apostrophe."""
    writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
    writer.writerow(COLUMNS)
    facts = _facts(differences)
    writer.writerows(_row(night, finding, facts.get(finding.call_id, {})) for finding in night.findings)


def in_units(micros: int | None) -> str:
    """`0.700000`: exact, and a number to every spreadsheet that uses points."""
    return "" if micros is None else f"{(Decimal(micros) * ONE_MICRO):f}"


def _row(night: Night, finding: Finding, facts: dict[str, Any]) -> list[object]:
    ended_at: datetime | None = _first(facts, "ended_at", "ended_at_known", "created_at")
    cost: int | None = _first(facts, "cost_micros", "cost_micros_known")
    return [
        finding.kind,
        in_spreadsheet(finding.call_id or ""),
        in_spreadsheet(organization_of(night, finding)),
        finding.organization_id or "",
        "" if ended_at is None else f"{ended_at:%Y-%m-%d %H:%M:%S}",
        in_spreadsheet(_first(facts, "assistant_id") or ""),
        in_spreadsheet(what_was_done(night, finding)),
        "" if finding.amount_micros is None else currency_of(night, finding),
        in_units(finding.amount_micros),
        "" if finding.amount_micros is None else finding.amount_micros,
        in_units(cost),
        "" if cost is None else cost,
        in_spreadsheet(detail_of(finding)),
    ]


def _facts(differences: pd.DataFrame) -> dict[object, dict[str, Any]]:
    """What the lists say of each call that differs; of a call that was listed twice, the row that counts."""
    differing = differences.loc[differences["kind"] != "matched", ["call_id", "kind", *FACTS]]
    differing = differing[differing["call_id"].notna()]
    repeated = differing["kind"] == "duplicate"
    return {row["call_id"]: row for part in (differing[repeated], differing[~repeated]) for row in _records(part)}


def _records(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    columns = [part[name].astype(object).where(part[name].notna(), None).tolist() for name in ("call_id", *FACTS)]
    for cells in zip(*columns, strict=True):
        yield dict(zip(("call_id", *FACTS), cells, strict=True))


def _first(facts: dict[str, Any], *names: str) -> Any:
    """The first of these that is known."""
    return next((facts[name] for name in names if facts.get(name) is not None), None)
