"""What a night tells Slack: facts that fit into the outbox, and words for them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from billing.figures import Completeness, Night, Reliability
from billing.incident_messages import Words
from billing.messages import MAX_REFERENCES, listing, percent, with_interval
from billing.money import format_micros
from billing.naming import naming_command

MONEY = {
    "Recovered": "recovered_micros",
    "Outstanding": "outstanding_micros",
    "Billed earlier": "earlier_micros",
    "At risk": "at_risk_micros",
    "Projected monthly loss": "projected_monthly_loss_micros",
}
LOOK = (
    "Look at Vapi's webhook logs of that time, and at the server URL and `backoffPlan` of the assistants concerned."
)
UNBILLED = {
    "unattributed": "without an organization: `{command}` bills them; `calltally call held` lists all",
    "unpriced": "without a price: `set_price` gives their organization one (docs/reference/sql.md)",
    "refused": "refused: the run's findings say why; run the same window again once that is mended",
    "held_call": "held, as they cannot be as Vapi told them: `calltally call held` lists them, with the reason and"
    " the command that decides",
    "held": "held back until Vapi's list is complete: run the same window again (`calltally reconcile`)",
}
"""What somebody has to do about calls that were found and are not charged, by the outcomes of figures.UNBILLED."""


def night_facts(night: Night, threshold: Decimal) -> dict[str, Any]:
    """The figures of a night as JSON of limited size: counts, micros by currency, and the first call ids."""
    return {
        "run_id": str(night.run_id),
        "window": night.window.in_words,
        "organization": night.organization,
        "ended": night.reliability.ended,
        "by_webhook": night.reliability.by_webhook,
        "threshold": str(threshold),
        "money": [
            {"currency": money.currency, **{field: getattr(money, field) for field in MONEY.values()}}
            for money in night.money
        ],
        "recovered_calls": len(night.recovered),
        "first_ids": list(night.lost_ids[:MAX_REFERENCES]),
        "unbilled": {outcome: calls for outcome, calls in night.unbilled.items() if calls},
        "command": _first_command(night),
        "incomplete": sum(part.verdict == "incomplete" for part in night.completeness),
        "apart": dict(Counter(_apart(part) for part in night.completeness if part.verdict == "incomplete")),
        "held": any(part.held for part in night.completeness),
        "cause": night.cause,
        "run_url": night.run_url,
    }


def night_words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    reliability = Reliability(facts["by_webhook"], facts["ended"])
    threshold = Decimal(facts["threshold"])
    of = f" of {facts['organization']}" if facts["organization"] else ""
    amounts = {name: _amounts(facts["money"], field) for name, field in MONEY.items()}
    return Words(
        headline=f"{reliability.lost} of {reliability.ended} calls{of} did not tell us by webhook",
        all_clear=f"Webhooks are reliable again: {percent(reliability.ratio)} of {reliability.ended} calls{of}",
        next_step=f"{LOOK} {_what_is_left(facts)}",
        values={
            "Webhook reliability": f"{with_interval(reliability)}, alert below {percent(threshold)}",
            **amounts,
            "Recovered": f"{amounts['Recovered']} ({_calls(facts['recovered_calls'])} of this run)",
            "Window": facts["window"],
        },
        paragraphs={
            "Likely cause": facts["cause"] or "",
            "Calls": listing(facts["first_ids"], reliability.lost),
            "Incomplete list": _incomplete(facts),
        },
        link=("Open the run", facts["run_url"]) if facts["run_url"] else None,
    )


def _first_command(night: Night) -> str | None:
    """What names the payer of the first call that has none; None if there is no such call."""
    unattributed = (finding for finding in night.findings if finding.outcome == "unattributed")
    return next((naming_command({**(found.detail or {}), "id": found.call_id}) for found in unattributed), None)


def _what_is_left(facts: Mapping[str, Any]) -> str:
    """What has to be done before all that was found is billed. Alerts of an earlier version do not say."""
    unbilled: Mapping[str, int] = facts.get("unbilled", {})
    steps = [
        f"{_calls(unbilled[outcome])} {step.format(command=facts.get('command') or 'calltally route add')}."
        for outcome, step in UNBILLED.items()
        if outcome in unbilled
    ]
    if steps:
        return " ".join(steps)
    if any(part["at_risk_micros"] for part in facts["money"]):
        return "What is at risk is not billed yet: it waits for `calltally route add`, or for a price."
    return "What was found is billed; nothing has to be repeated."


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _amounts(money: Sequence[Mapping[str, Any]], field: str) -> str:
    """One amount per currency; a night without any wrote no money at all. Alerts of an earlier version know less."""
    return ", ".join(format_micros(part.get(field, 0), part["currency"]) for part in money) or "none"


def _apart(part: Completeness) -> str:
    reported = part.reported or part.listed
    if part.listed.calls == reported.calls:
        return "the same number of calls at another cost"
    return "fewer calls" if part.listed.calls < reported.calls else "more calls"


def _incomplete(facts: Mapping[str, Any]) -> str:
    if not facts["incomplete"]:
        return ""
    apart = "; ".join(f"{said} in {parts}" for said, parts in facts.get("apart", {}).items())
    held = "Billing of their calls is held until both agree; each night tries again." if facts.get("held") else ""
    return f"Vapi's list and its own totals disagree. The list has {apart} of its parts. {held}".rstrip()
