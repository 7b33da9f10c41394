"""One night, as data: what is to be done, and what was found. No database, no clock."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

import pandas as pd

from billing.cause import likely_cause
from billing.figures import (
    CHARGED,
    Completeness,
    Finding,
    FindingKind,
    GroupReliability,
    NightMoney,
    Recovered,
    Reliability,
    Totals,
    Window,
)
from billing.naming import NAMED_BY
from billing.night_windows import Range
from billing.reconcile import SETTLING, count_kinds, is_over
from billing.reliability import by_group, lost_calls, measure
from billing.repair import Corrected, LostValue
from billing.vapi import LONGEST_CALL_SECONDS, MICROSECOND, EndedCall
from billing.vapi_page import ended_calls

LONGEST_CALL: Final = timedelta(seconds=LONGEST_CALL_SECONDS)
BELIEVABLE_MICROS: Final = 1_000_000_000
"""Of a call's cost: more is absurd, as `call_problem` in sql/ says, and belongs into no sum."""
MONTH: Final = timedelta(days=30)
MAX_GROUPS: Final = 50
"""Organizations and assistants that a run keeps, the worst first."""


@dataclass(frozen=True, slots=True)
class ListTolerance:
    """How far the list and the provider's totals may be apart: the larger of a share and a few calls.

    The provider's totals may count calls by another of their times than their creation, and follow with a delay.
    """

    share: Decimal
    calls: int

    def verdict(self, listed: Totals, reported: Totals | None, *, odd: int = 0, undated: int = 0) -> str:
        """`complete`, `incomplete`, or `unproven` without totals.

        Where `odd` rows have no cost that can be summed, or `undated` ones may belong anywhere, only calls are
        counted: single bad rows hold nobody else's billing.
        """
        if reported is None:
            return "unproven"
        calls = max(self.calls, round(self.share * reported.calls))
        mean_micros = reported.cost_micros // max(1, reported.calls)
        cost_micros = max(self.calls * mean_micros, round(self.share * reported.cost_micros))
        near = -calls <= reported.calls - listed.calls <= calls + undated and (
            odd + undated > 0 or abs(listed.cost_micros - reported.cost_micros) <= cost_micros
        )
        return "complete" if near else "incomplete"


def prove_complete(
    provider: pd.DataFrame,
    totals: Mapping[Range, Totals | None],
    tolerance: ListTolerance,
) -> list[Completeness]:
    """Put each part of the list beside the provider's own totals for it."""
    proofs = []
    undated = int(provider["created_at"].isna().sum())
    for (start, end), reported in totals.items():
        part = provider[provider["created_at"].ge(start) & provider["created_at"].lt(end)]
        part = part.drop_duplicates("call_id")
        costs = part.loc[part["problem"].isna() & part["cost_micros"].abs().le(BELIEVABLE_MICROS), "cost_micros"]
        odd = int(part["problem"].notna().sum() + part["cost_micros"].abs().gt(BELIEVABLE_MICROS).sum())
        listed = Totals(len(part), int(costs.sum()))
        verdict = tolerance.verdict(listed, reported, odd=odd, undated=undated)
        proofs.append(Completeness(start, end, listed, reported, verdict))
    return proofs


class Comparison:
    """Both lists side by side, and what follows from it. Large, so not a dataclass: Prefect walks through those."""

    def __init__(
        self,
        differences: pd.DataFrame,
        *,
        window: Window,
        as_of: datetime,
        reported: set[str],
        names: Mapping[str, str],
        completeness: Sequence[Completeness],
        stops_billing: bool,
    ) -> None:
        """What follows from `differences`, of a list that was read at `as_of`.

        `reported`: unknown calls whose report had arrived at first sight. `names`: of organizations, by id.
        """
        self.differences = differences
        self.as_of = as_of
        self.reported = reported
        self.completeness = [
            replace(part, held=stops_billing and part.verdict == "incomplete") for part in completeness
        ]
        self.counts = count_kinds(differences)
        # A call that ended a moment ago may yet tell us, in a window that somebody chose to end so late.
        bounds = (differences, reported, window.start, min(window.end, as_of - SETTLING))
        self.reliability: Reliability = measure(*bounds)
        self.by_organization = self._worst(by_group(*bounds, "organization_id", names))
        self.by_assistant = self._worst(by_group(*bounds, "assistant_id", {}))
        self.cause = likely_cause(*bounds)
        self.lost: list[EndedCall] = ended_calls(lost_calls(*bounds))

        unknown = differences["by_webhook"].isna() & differences["kind"].isin(
            ["missing", "unconnected", "unattributed"]
        )
        changed = differences["kind"].eq("drift") & differences["drift_fields"].str.contains("duration|cost")
        # A call that is shown as running again, or whose times the list has lost, is no cheaper for it.
        changed &= is_over(differences) & differences["started_at"].notna()
        # What was told of a held call before may be told better by now.
        settled = differences["updated_at"].le(as_of - SETTLING)
        changed |= differences["kind"].eq("held") & is_over(differences) & settled
        held = self._held()
        self.missing: list[EndedCall] = ended_calls(differences[unknown & ~held])
        self.drifted: list[EndedCall] = ended_calls(differences[changed & ~held])
        self.held_ids: set[str] = set(differences.loc[(unknown | changed) & held, "call_id"])

    @staticmethod
    def _worst(groups: list[GroupReliability]) -> list[GroupReliability]:
        return groups[:MAX_GROUPS]

    def _held(self) -> "pd.Series[bool]":
        """Whether a call was created in a part of the list whose calls wait."""
        created = self.differences["created_at"]
        held = pd.Series(data=False, index=self.differences.index)
        for part in self.completeness:
            if part.held:
                held |= created.ge(part.start) & created.lt(part.end)
        return held


def findings(
    comparison: Comparison,
    recorded: Sequence[Recovered],
    corrected: Sequence[Corrected],
    earlier: Sequence[Finding] = (),
) -> list[Finding]:
    """Every difference that somebody may want to look at, with what was done about it.

    `earlier`: those that runs found which failed before they could tell.

    Calls that agree, that never connected or that are older than the provider's memory are counted, not listed,
    unless they could not be booked; so are open ones, unless they should be over by now.
    """
    outcomes = {call.call_id: call for call in recorded}
    changes = {call.call_id: call for call in corrected}
    listed = comparison.differences[
        comparison.differences["kind"].isin(
            ["missing", "unattributed", "drift", "held", "phantom", "duplicate", "unreadable"]
        )
        | comparison.differences["call_id"].isin([call.call_id for call in recorded if call.problem])
        | _are_stuck(comparison)
    ]
    found = []
    rows: Any = listed.to_dict("records")
    for row in rows:
        call_id = None if pd.isna(row["call_id"]) else row["call_id"]
        match row["kind"]:
            case "missing" | "unattributed" | "unconnected":
                found.append(_found_missing(row, outcomes.get(row["call_id"]), held=call_id in comparison.held_ids))
            case "drift":
                found.append(_found_drift(row, changes.get(row["call_id"]), held=call_id in comparison.held_ids))
            case "held":
                found.append(_found_held(row, changes.get(row["call_id"])))
            case "open":
                facts = {"status": _text(row["status"]), "ended_at": _moment(row["ended_at"])}
                found.append(Finding("open", call_id, _uuid(row["organization_id"]), outcome="noted", detail=facts))
            case "unreadable":
                found.append(Finding("unreadable", call_id, outcome="noted", detail={"problem": row["problem"]}))
            case kind:
                found.append(Finding(kind, call_id, _uuid(row["organization_id"]), outcome="noted"))
    own = {finding.call_id for finding in found if finding.kind in {"missing", "unattributed"}}
    return [
        *(_incomplete(part) for part in comparison.completeness if part.verdict == "incomplete"),
        *found,
        *(finding for finding in earlier if finding.kind == "drift" or finding.call_id not in own),
    ]


def _are_stuck(comparison: Comparison) -> "pd.Series[bool]":
    """Which open calls ended, or began, so long ago that no night will find them settled by itself."""
    calls = comparison.differences
    since = calls["ended_at"].fillna(calls["started_at"])
    return calls["kind"].eq("open") & since.lt(comparison.as_of - LONGEST_CALL)


def _found_missing(row: Mapping[str, Any], recorded: Recovered | None, *, held: bool) -> Finding:
    facts = {
        **{name: _text(row[name]) for name in NAMED_BY},
        "ended_reason": _text(row["ended_reason"]),
        "ended_at": _moment(row["ended_at"]),
        "duration_ms": _number(row["duration_ms"]),
        "provider_cost_micros": _number(row["cost_micros"]),
    }
    if recorded is None:
        outcome = "held" if held else "unattributed"
        return Finding(row["kind"], row["call_id"], _uuid(row["organization_id"]), outcome=outcome, detail=facts)
    detail = {**facts, "problem": recorded.problem} if recorded.problem else facts
    kind: FindingKind = "unattributed" if recorded.outcome == "unattributed" else "missing"
    return Finding(kind, recorded.call_id, recorded.organization_id, recorded.amount_micros, recorded.outcome, detail)


def _found_drift(row: Mapping[str, Any], corrected: Corrected | None, *, held: bool) -> Finding:
    """What moved, ours first; money follows only a change of what the price depends on."""
    fields = row["drift_fields"].split(",")
    sides = {
        "ended_state": ("ended", _text(row["status"])),
        "duration": (_number(row["duration_ms_known"]), _number(row["duration_ms"])),
        "cost": (_number(row["cost_micros_known"]), _number(row["cost_micros"])),
        "organization": (_text(row["organization_id_known"]), _text(row["organization_id"])),
    }
    detail: dict[str, object] = {field: list(sides[field]) for field in fields}
    if corrected is not None and corrected.problem:
        detail["problem"] = corrected.problem
    difference = corrected.difference_micros if corrected else None
    outcome = "held" if held or "problem" in detail else "corrected" if difference else "noted"
    return Finding("drift", row["call_id"], _uuid(row["organization_id_known"]), difference, outcome, detail)


def _found_held(row: Mapping[str, Any], corrected: Corrected | None) -> Finding:
    """Why it waits for a person still; or what it was charged, as the provider has told better since."""
    problem = corrected.problem if corrected else row["held"]
    outcome = "held" if problem or corrected is None else "corrected"
    detail: dict[str, object] = {"problem": problem} if problem else {"was_held": row["held"]}
    amount = corrected.difference_micros if corrected else None
    return Finding("held", row["call_id"], _uuid(row["organization_id"]), amount, outcome, detail)


def _incomplete(part: Completeness) -> Finding:
    reported = part.reported or Totals(0, 0)
    return Finding(
        "incomplete",
        None,
        outcome="noted",
        detail={
            "from": part.start.isoformat(),
            "to": part.end.isoformat(),
            "listed_calls": part.listed.calls,
            "reported_calls": reported.calls,
            "listed_cost_micros": part.listed.cost_micros,
            "reported_cost_micros": reported.cost_micros,
        },
    )


def recovered_calls(comparison: Comparison, recorded: Sequence[Recovered]) -> list[Recovered]:
    """Those of the recorded calls that this run charged and whose webhook got lost.

    Others never connected, so no webhook was due; or theirs waits in the inbox, or came before the repair did.
    """
    kinds = comparison.differences.loc[comparison.differences["kind"].isin(["missing", "unattributed"]), "call_id"]
    lost = set(kinds) - comparison.reported
    return [call for call in recorded if call.call_id in lost and call.outcome in CHARGED and not call.known]


def recovered_earlier(earlier: Sequence[Finding]) -> list[Recovered]:
    """The same of what runs recorded that failed before they could tell."""
    return [
        Recovered(finding.call_id or "", finding.organization_id, finding.outcome, finding.amount_micros, known=False)
        for finding in earlier
        if finding.outcome in CHARGED
    ]


def corrected_earlier(earlier: Sequence[Finding]) -> list[Corrected]:
    """What such runs corrected, of the same findings."""
    return [
        Corrected(finding.call_id or "", finding.organization_id, finding.amount_micros)
        for finding in earlier
        if finding.kind == "drift"
    ]


def money(
    window: Window,
    recovered: Sequence[Recovered],
    corrected: Sequence[Corrected],
    lost: Sequence[LostValue],
    lost_ids: Collection[str],
    currencies: Mapping[UUID, str],
) -> list[NightMoney]:
    """What the night did and prevented, by currency; `lost` is what the calls of `lost_ids` are worth."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    of_window = set(lost_ids)
    months = Fraction(MONTH // MICROSECOND, (window.end - window.start) // MICROSECOND)
    for call in recovered:
        if call.organization_id and call.outcome in {"settled", "outstanding"}:
            name = "recovered_micros" if call.outcome == "settled" else "outstanding_micros"
            sums[currencies[call.organization_id]][name] += call.amount_micros or 0
            if call.call_id in of_window:
                sums[currencies[call.organization_id]]["earlier_micros"] -= call.amount_micros or 0
    for change in corrected:
        if change.organization_id and change.difference_micros:
            sums[currencies[change.organization_id]]["corrected_micros"] += change.difference_micros
    for value in lost:
        sums[value.currency]["at_risk_micros"] += value.at_risk_micros
        sums[value.currency]["earlier_micros"] += value.charged_micros
        worth = value.charged_micros + value.at_risk_micros
        sums[value.currency]["projected_monthly_loss_micros"] += round(worth * months)
    return [NightMoney(currency, **amounts) for currency, amounts in sorted(sums.items()) if any(amounts.values())]


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _moment(value: Any) -> str | None:
    return None if pd.isna(value) else value.isoformat()


def _uuid(value: Any) -> UUID | None:
    return None if pd.isna(value) else UUID(value)
