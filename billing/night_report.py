"""What a night says to people outside of Slack: pure text from its figures."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice

from billing.figures import Finding, GroupReliability, Night, NightMoney, Reliability
from billing.literal import in_markdown
from billing.messages import percent
from billing.money import format_micros
from billing.naming import NAMED_BY

REHEARSAL = "Rehearsal: nothing was booked."
MAX_ROWS = 200
"""Findings in a table of Prefect's UI."""
MAX_GROUPS = 20
"""Organizations and assistants in a summary; the report has them all."""

CENT = 10_000
"""In micros."""

KINDS = {
    "matched": "known to both, and the same",
    "missing": "the provider's, of which no webhook told us",
    "unconnected": "never connected: nothing to bill, and no webhook was due",
    "unattributed": "nobody's: no route says which organization pays",
    "drift": "known to both, but changed by the provider since",
    "held": "known to both, and held for a person: it cannot be as it was told",
    "phantom": "ours, but not on the provider's list",
    "duplicate": "listed more than once",
    "open": "not ended or not settled yet: another night's",
    "beyond_retention": "ours, and older than the provider keeps calls: nothing to compare with",
    "unreadable": "rows that could not be read",
    "incomplete": "parts of the list that differ from the provider's own totals",
    "alert": "Slack could not be told",
    "report": "the files of the report could not be written",
}
"""What each kind of difference means, and each finding about the run itself."""

OUTCOMES = {
    "settled": ("charged", "would be charged"),
    "outstanding": ("owed: past the debt limit", "would be owed: past the debt limit"),
    "free": ("recorded, free of charge", "would be recorded, free of charge"),
    "cancelled": ("recorded, its charge is cancelled", "would be recorded, its charge is cancelled"),
    "unattributed": ("in quarantine: add a route", "would be in quarantine: add a route"),
    "unpriced": ("recorded, not charged: set a price", "would be recorded, not charged: set a price"),
    "refused": ("refused: see the detail", "would be refused: see the detail"),
    "corrected": ("corrected", "would be corrected"),
    "held": (
        "held back: see the detail; without one, the provider's list is not complete",
        "would be held back: see the detail; without one, the provider's list is not complete",
    ),
    "noted": ("noted, no money moved", "noted"),
}
"""What was done about a finding, and what a rehearsal says."""


IN_COLUMNS = {*NAMED_BY, "ended_reason", "ended_at", "duration_ms", "provider_cost_micros"}
"""Parts of a finding's detail that reports show apart, or not at all."""


def interval_in_words(reliability: Reliability) -> str:
    """`91.20 % to 94.10 %`, or a hyphen for no calls."""
    ends = reliability.interval
    return "-" if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"


def money_rows(money: NightMoney, *, dry_run: bool) -> list[tuple[str, str, str]]:
    """Name, amount and meaning of each figure of money."""
    would = "would be " if dry_run else ""
    return [
        (
            "Recovered",
            format_micros(money.recovered_micros, money.currency),
            f"{would}paid from wallets for calls that no webhook told us of",
        ),
        (
            "Outstanding",
            format_micros(money.outstanding_micros, money.currency),
            f"{would}owed past a debt limit: the next top-up settles it",
        ),
        (
            "Billed earlier",
            format_micros(money.earlier_micros, money.currency),
            "by runs before this one, for calls of this window that no webhook told us of",
        ),
        (
            "At risk",
            format_micros(money.at_risk_micros, money.currency),
            "estimate for calls that have no organization or price yet",
        ),
        (
            "Corrected",
            format_micros(money.corrected_micros, money.currency),
            "for calls that the provider changed after they were charged",
        ),
        (
            "Loss in 30 days without reconciliation",
            format_micros(_whole_cents(money.projected_monthly_loss_micros), money.currency),
            "if all days were like this window, and nobody looked",
        ),
    ]


def kind_rows(night: Night) -> list[tuple[str, int, str]]:
    """Each kind of difference with its count and meaning, and what was wrong with the run itself."""
    of_run: Counter[str] = Counter(finding.kind for finding in night.findings if finding.kind not in night.counts)
    return [(kind, count, KINDS[kind]) for kind, count in {**night.counts, **of_run}.items()]


def currency_of(night: Night, finding: Finding) -> str:
    """Of a finding's amount: its organization's, or the night's only one; empty if nobody can tell."""
    if finding.organization_id is not None and finding.organization_id in night.currencies:
        return night.currencies[finding.organization_id]
    return night.money[0].currency if len(night.money) == 1 else ""


def organization_of(night: Night, finding: Finding) -> str:
    """Its name; who nobody is routed to needs a route."""
    if finding.organization_id is None:
        return "unknown: add a route" if finding.kind == "unattributed" else ""
    return night.organizations.get(finding.organization_id, str(finding.organization_id))


def what_was_done(night: Night, finding: Finding) -> str:
    """For people; a rehearsal speaks of what would be."""
    if finding.outcome is None:
        return "nothing: for people to look at" if finding.kind in {"phantom", "unreadable"} else ""
    return OUTCOMES.get(finding.outcome, (finding.outcome, finding.outcome))[night.dry_run]


def detail_of(finding: Finding) -> str:
    """`problem: …`, or what moved: `duration: 60000 → 120000`. What has a column of its own is left out."""
    said = {
        name: fact for name, fact in (finding.detail or {}).items() if name not in IN_COLUMNS and fact is not None
    }
    return "; ".join(f"{name}: {_moved(fact) if isinstance(fact, list) else fact}" for name, fact in said.items())


def ended_at(finding: Finding) -> str:
    """When its call ended, to the second, if the finding says."""
    told = (finding.detail or {}).get("ended_at")
    return f"{datetime.fromisoformat(told).astimezone(UTC):%Y-%m-%d %H:%M:%S}" if isinstance(told, str) else ""


def findings_rows(night: Night, limit: int | None = None) -> list[dict[str, str]]:
    """One row per finding, in their order; `limit` is how many at most."""
    return [
        {
            "kind": finding.kind,
            "call": finding.call_id or "",
            "organization": organization_of(night, finding),
            "what was done": what_was_done(night, finding),
            "amount": ""
            if finding.amount_micros is None
            else format_micros(finding.amount_micros, currency_of(night, finding)).rstrip(),
            "ended (UTC)": ended_at(finding),
            "assistant": str((finding.detail or {}).get("assistant_id") or ""),
            "detail": detail_of(finding),
        }
        for finding in islice(night.findings, limit)
    ]


def headline(night: Night) -> str:
    """The night in a sentence."""
    reliability = night.reliability
    if not reliability.ended:
        return "No call ended in this window"
    if not night.lost:
        return f"All {reliability.ended:,} ended calls told us by webhook"
    return f"{night.lost:,} of {reliability.ended:,} ended calls did not tell us by webhook"


def summary_markdown(night: Night, chart: str | None = None) -> str:
    """For Prefect's artifact; `chart` is the address of a picture, a data URI for example."""
    parts = [
        f"# {headline(night)}",
        f"**{REHEARSAL}**" if night.dry_run else "",
        f"Calls that ended from {night.window.in_words}"
        + (f", of {in_markdown(night.organization)} only." if night.organization else "."),
        _reliability(night.reliability),
        f"Likely cause: {in_markdown(night.cause)}." if night.cause else "",
        f"![Webhook reliability over 30 days]({chart})" if chart else "",
        *(_money_table(money, dry_run=night.dry_run) for money in night.money),
        _table(
            ("calls", "", "meaning"),
            [(kind, f"{count:,}", meaning) for kind, count, meaning in kind_rows(night)],
        ),
        _groups("Organizations", night.by_organization),
        _groups("Assistants", night.by_assistant),
        _completeness(night),
        f"Slack: {in_markdown(night.alert)}" if night.alert else "",
        f"Report: `{night.report_url}`" if night.report_url else "",
        f"Run `{night.run_id}`",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def completeness_in_words(night: Night) -> str:
    """Whether the provider's own totals prove that its list was read to the end."""
    if not night.completeness:
        return "The provider gave no totals to compare its list with."
    listed = sum(part.listed.calls for part in night.completeness)
    verdicts = [part.verdict for part in night.completeness]
    if all(verdict == "complete" for verdict in verdicts):
        return (
            f"Proven complete: the {listed:,} listed calls are as many, and cost as much, as the provider's totals."
        )
    if "incomplete" in verdicts:
        return (
            f"Not complete: {verdicts.count('incomplete')} of {len(verdicts)} parts of the list differ from the"
            " provider's totals. Run the same window again."
        )
    return (
        f"Not proven: the provider gave no totals for {verdicts.count('unproven')} of {len(verdicts)} parts of the"
        f" list ({listed:,} calls)."
    )


def _whole_cents(micros: int) -> int:
    """An estimate says no more than it knows."""
    return micros // CENT * CENT


def _moved(sides: list[object]) -> str:
    return " \N{RIGHTWARDS ARROW} ".join("unknown" if side is None else str(side) for side in sides)


def _reliability(reliability: Reliability) -> str:
    said = f"**{percent(reliability.ratio)}** of {reliability.ended} ended calls told us by webhook"
    return f"{said} (95 % interval: {interval_in_words(reliability)}); {reliability.lost} did not."


def _money_table(money: NightMoney, *, dry_run: bool) -> str:
    return _table((f"money ({money.currency})", "", "meaning"), money_rows(money, dry_run=dry_run))


def _groups(title: str, groups: Sequence[GroupReliability]) -> str:
    if not groups:
        return ""
    shown = [
        (
            in_markdown(group.name),
            percent(group.reliability.ratio),
            f"{group.reliability.lost:,} of {group.reliability.ended:,}",
        )
        for group in groups[:MAX_GROUPS]
    ]
    more = f"\n\n… and {len(groups) - MAX_GROUPS} more in the report" if len(groups) > MAX_GROUPS else ""
    return _table((title.lower(), "reliability", "did not tell us"), shown) + more


def _completeness(night: Night) -> str:
    return f"Completeness of the provider's list: {completeness_in_words(night)}"


def _table(head: tuple[str, str, str], body: Sequence[tuple[str, str, str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in body]
    return "\n".join([f"| {' | '.join(head)} |", "|---|---:|---|", *lines])
