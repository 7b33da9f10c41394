"""What a night tells Slack: facts that fit into the outbox, and words for them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from billing.figures import Night, Reliability
from billing.incident_messages import Words
from billing.messages import MAX_REFERENCES, listing, percent, with_interval
from billing.money import format_micros

MONEY = {
    "Recovered": "recovered_micros",
    "Outstanding": "outstanding_micros",
    "At risk": "at_risk_micros",
    "Projected monthly loss": "projected_monthly_loss_micros",
}


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
        "first_ids": [call.call_id for call in night.recovered[:MAX_REFERENCES]],
        "incomplete": sum(part.verdict == "incomplete" for part in night.completeness),
        "cause": night.cause,
        "run_url": night.run_url,
    }


def night_words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    reliability = Reliability(facts["by_webhook"], facts["ended"])
    threshold = Decimal(facts["threshold"])
    of = f" of {facts['organization']}" if facts["organization"] else ""
    return Words(
        headline=f"{reliability.lost} of {reliability.ended} calls{of} did not tell us by webhook",
        all_clear=f"Webhooks are reliable again: {percent(reliability.ratio)} of {reliability.ended} calls{of}",
        next_step=(
            "Look at Vapi's webhook logs of that time, and at the server URL and `backoffPlan` of the assistants "
            "concerned. What was recovered is billed; nothing has to be repeated."
        ),
        values={
            "Webhook reliability": f"{with_interval(reliability)}, alert below {percent(threshold)}",
            **{name: _amounts(facts["money"], field) for name, field in MONEY.items()},
            "Window": facts["window"],
        },
        paragraphs={
            "Likely cause": facts["cause"] or "",
            "Recovered calls": listing(facts["first_ids"], facts["recovered_calls"]),
            "Incomplete list": _incomplete(facts["incomplete"]),
        },
        link=("Open the run", facts["run_url"]) if facts["run_url"] else None,
    )


def _amounts(money: Sequence[Mapping[str, Any]], field: str) -> str:
    """One amount per currency; a night without any wrote no money at all."""
    return ", ".join(format_micros(part[field], part["currency"]) for part in money) or "none"


def _incomplete(parts: int) -> str:
    if not parts:
        return ""
    return (
        f"Vapi's own totals name more calls than its list did, in {parts} parts of the window. Run the night again."
    )
