"""What people read: the night's summary, and its Slack message. Pure text from figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any
from uuid import UUID

from billing.money import format_micros
from billing.runs import Recovered, Window

MAX_REFERENCES = 10
"""Call ids in one message; the rest is a number and a link."""


@dataclass(frozen=True, slots=True)
class Night:
    """The figures of one reconciliation run."""

    run_id: UUID
    window: Window
    dry_run: bool
    counts: Mapping[str, int]
    ended: int
    by_webhook: int
    recovered: Sequence[Recovered]
    corrected_micros: int
    organizations: Mapping[UUID, str]
    cause: str | None
    run_url: str | None

    @property
    def ratio(self) -> Decimal | None:
        """Share of ended calls that a webhook told us of; None for no calls."""
        return Decimal(self.by_webhook) / self.ended if self.ended else None

    @property
    def lost(self) -> int:
        """Calls whose webhook never came."""
        return self.ended - self.by_webhook

    @property
    def charged_micros(self) -> int:
        """Booked on wallets for recovered calls."""
        return sum(call.amount_micros or 0 for call in self.recovered if call.outcome == "settled")

    @property
    def outstanding_micros(self) -> int:
        """Owed for recovered calls, refused by a debt limit."""
        return sum(call.amount_micros or 0 for call in self.recovered if call.outcome == "outstanding")

    def needs_alert(self, threshold: Decimal) -> bool:
        """Whether the ratio is below the threshold; exactly on it is well, and no calls are no alarm."""
        return self.ratio is not None and self.by_webhook < threshold * self.ended


def percent(share: Decimal | None) -> str:
    """Two decimals, cut and not rounded, so that 94.999 % never reads as the threshold."""
    return "no calls" if share is None else f"{(share * 100).quantize(Decimal('0.01'), ROUND_DOWN)} %"


def summary_markdown(night: Night) -> str:
    """For Prefect's artifact."""
    rehearsal = "\n\n**Rehearsal: nothing was booked.**" if night.dry_run else ""
    kinds = "\n".join(f"| {kind} | {count} |" for kind, count in night.counts.items())
    return f"""# Night of {night.window.in_words}{rehearsal}

**{percent(night.ratio)}** of {night.ended} ended calls told us by webhook; {night.lost} did not.
Recovered: **{format_micros(night.charged_micros)}** charged, {format_micros(night.outstanding_micros)} outstanding.
Corrections of known calls: {format_micros(night.corrected_micros)}.
{f"Likely cause: {night.cause}." if night.cause else ""}

| calls | |
|---|---:|
{kinds}

Run `{night.run_id}`
"""


def recovered_table(night: Night) -> list[dict[str, str]]:
    """For Prefect's artifact: one row per recovered call."""
    return [
        {
            "call": call.call_id,
            "organization": _organization(night, call),
            "outcome": call.outcome,
            "amount": "" if call.amount_micros is None else format_micros(call.amount_micros),
        }
        for call in night.recovered
    ]


def slack_message(night: Night, threshold: Decimal) -> dict[str, Any]:
    """Text and blocks for an incoming webhook, within Slack's limits (header 150, section 3,000 characters)."""
    headline = f"{night.lost} of {night.ended} calls did not tell us by webhook"
    ids = [call.call_id for call in night.recovered[:MAX_REFERENCES]]
    more = len(night.recovered) - len(ids)
    listing = "\n".join(f"• `{call_id}`" for call_id in ids) + (f"\nand {more} more" if more > 0 else "")
    facts = {
        "Webhook reliability": f"{percent(night.ratio)} (alert below {percent(threshold)})",
        "Window": night.window.in_words,
        "Recovered": format_micros(night.charged_micros),
        "Outstanding": format_micros(night.outstanding_micros),
    }
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": f":rotating_light: {headline}"[:150]}},
        {"type": "section", "fields": [_text(f"*{name}*\n{escape(fact)}") for name, fact in facts.items()]},
    ]
    if night.cause:
        blocks.append({"type": "section", "text": _text(f"*Likely cause*\n{escape(night.cause)}")})
    if ids:
        title = "Would recover" if night.dry_run else "Recovered calls"
        blocks.append({"type": "section", "text": _text(f"*{title}*\n{listing}")})
    blocks.append(
        {
            "type": "section",
            "text": _text(
                "*Next step*\nLook at Vapi's webhook logs of that time, and at the server URL and `backoffPlan` "
                "of the assistants concerned. The calls are billed; nothing has to be repeated."
            ),
        }
    )
    if night.run_url:
        button = {
            "type": "button",
            "action_id": "open_run",
            "text": {"type": "plain_text", "text": "Open the run"},
            "url": night.run_url,
        }
        blocks.append({"type": "actions", "elements": [button]})
    text = f"{headline}: reliability {percent(night.ratio)}, {format_micros(night.charged_micros)} recovered"
    return {"text": text, "blocks": blocks}


def dead_events_message(facts: Mapping[str, Any]) -> dict[str, Any]:
    """For Slack: events of one provider that died of one kind of error; never what they say."""
    noun = "event" if facts["events"] == 1 else "events"
    headline = f"{facts['events']} {facts['provider']} {noun} could not be applied: {facts['error']}"
    ids = ", ".join(str(event_id) for event_id in facts["first_ids"])
    more = facts["events"] - len(facts["first_ids"])
    listing = f"{ids} and {more} more" if more > 0 else ids
    command = f"calltally events replay --state dead --error {facts['error']}"
    return {
        "text": headline,
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": f":rotating_light: {headline}"[:150]}},
            {"type": "section", "text": _text(f"*Events* {listing}\n*For example* {escape(facts['example'])[:500]}")},
            {
                "type": "section",
                "text": _text(
                    f"*Next step*\nLook at one: `calltally events show {facts['first_ids'][0]}`. Nothing is lost: "
                    f"mend the cause, then `{command} --dry-run`, and the same without `--dry-run`."
                ),
            },
        ],
    }


def likely_cause(missing: Sequence[Mapping[str, Any]]) -> str | None:
    """What most of the missing calls have in common: an assistant, a number or an hour; None if nothing stands out.

    `missing`: rows with `assistant_id`, `phone_number_id` and `ended_at`.
    """
    if not missing:
        return None
    traits = [
        *(("assistant", row["assistant_id"]) for row in missing if row["assistant_id"]),
        *(("phone number id", row["phone_number_id"]) for row in missing if row["phone_number_id"]),
        *(("hour", f"{row['ended_at']:%Y-%m-%d %H}:00 UTC") for row in missing),
    ]
    trait, count = max(((trait, traits.count(trait)) for trait in dict.fromkeys(traits)), key=lambda found: found[1])
    if len(missing) > 1 and count > len(missing) / 2:
        return f"{count} of {len(missing)} missing calls share {trait[0]} {trait[1]}"
    return "no assistant, number or hour stands out among the missing calls"


def escape(text: str) -> str:
    """Slack's three special characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text(markdown: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": markdown[:3000]}


def _organization(night: Night, call: Recovered) -> str:
    if call.organization_id is None:
        return "unknown: add a route"
    return night.organizations.get(call.organization_id, str(call.organization_id))
