"""How the week was, and that the channel works, in Slack's blocks."""

from collections.abc import Mapping
from typing import Any

from billing.figures import Reliability
from billing.messages import Block, code, fields, header, message, section, with_interval
from billing.money import format_micros

MONEY = {"Charged": "charged_micros", "Outstanding": "outstanding_micros", "Topped up": "topups_micros"}


def summary_message(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of `summaries.week_facts`."""
    headline = f"{facts['calls']} calls from {facts['week']}, {facts['billed']} billed"
    values = {
        "Webhook reliability": with_interval(Reliability(facts["by_webhook"], facts["ended"])),
        "Recovered by nights": f"{facts['recovered']} calls",
        **{name: _amounts(facts["money"], column) for name, column in MONEY.items()},
    }
    blocks: list[Block] = [header(f":bar_chart: {headline}"), fields(values), section("Incidents", _listed(facts))]
    text = f"{headline}: {_amounts(facts['money'], 'charged_micros')} charged, {facts['incidents']} incidents"
    return message(text, blocks)


def heartbeat_message(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of `summaries.heartbeat_facts`: a line, and what is wrong at the moment."""
    count = facts["incidents"]
    wrong = f"{count} {'incident is' if count == 1 else 'incidents are'} open" if count else "nothing is wrong"
    line = f"calltally watches the books and can reach this channel: {wrong}"
    if not count:
        return message(line, [section(facts["day"], line)])
    return message(line, [section(facts["day"], line), section("Open incidents", _listed(facts))])


def _amounts(money: list[Mapping[str, Any]], column: str) -> str:
    return ", ".join(format_micros(part[column], part["currency"]) for part in money) or "none"


def _listed(facts: Mapping[str, Any]) -> str:
    lines = [
        f"{code(incident['key'])} {incident['severity']}, {'open' if incident['open'] else 'over'}, seen "
        f"{incident['times_seen']} times"
        for incident in facts["first"]
    ]
    more = facts["incidents"] - len(lines)
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])]) or "none"
