"""What people read of an incident: one look for all of them, with words that each kind finds for its facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from billing.alerts import Alert
from billing.messages import Block, button, context, fields, header, message, section

CUT = 400
"""Characters of a value; whoever wants more opens the link."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a kind of incident says of its facts; plain text, `code` and *bold* allowed, escaped when shown."""

    headline: str
    """What is wrong, how many of how many."""
    all_clear: str
    """The same when it is over; the facts are then those of the good look."""
    next_step: str
    values: Mapping[str, str] = field(default_factory=dict)
    """Shown side by side, at most 10."""
    paragraphs: Mapping[str, str] = field(default_factory=dict)
    """By title; empty ones are left out."""
    link: tuple[str, str] | None = None
    """What the button says, and where it leads."""


def incident_message(alert: Alert, words: Words, runbook_url: str | None = None) -> dict[str, object]:
    """Text and blocks for an incoming webhook."""
    if alert.kind == "cleared":
        return _all_clear(alert, words, runbook_url)
    urgent = "Critical: " if alert.severity == "critical" else ""
    still = "Still: " if alert.kind == "reminder" else ""
    headline = f"{still}{urgent}{words.headline}"
    blocks: list[Block] = [header(f":rotating_light: {headline}")]
    if words.values:
        blocks.append(fields(words.values))
    blocks += [section(title, text) for title, text in words.paragraphs.items() if text]
    blocks.append(section("Next step", words.next_step))
    return message(_one_line(headline, words), [*blocks, *_ending(alert, words, runbook_url)])


def _all_clear(alert: Alert, words: Words, runbook_url: str | None) -> dict[str, object]:
    lasted = f"From {_at(alert.since)} to {_at(alert.until)}."
    untold = "" if alert.told else " It was over before anybody could be told of it."
    blocks: list[Block] = [header(f":white_check_mark: {words.all_clear}"), section("It lasted", f"{lasted}{untold}")]
    text = f"{words.all_clear}. {lasted}{untold}"
    return message(text, [*blocks, *_ending(alert, words, runbook_url)])


def _ending(alert: Alert, words: Words, runbook_url: str | None) -> list[Block]:
    name = alert.key.partition(":")[0]
    runbook = f"<{runbook_url}#{name}|runbook: {name}>" if runbook_url else f"docs/runbook.md, section `{name}`"
    seen = "once" if alert.times_seen == 1 else f"{alert.times_seen} times"
    known = f"Incident {alert.incident_id}, since {_at(alert.since)}, seen {seen} · {runbook}"
    return [*([button(*words.link)] if words.link else []), context(known)]


def _one_line(headline: str, words: Words) -> str:
    values = ", ".join(f"{name.lower()} {value}" for name, value in list(words.values.items())[:3])
    return f"{headline}: {values}" if values else headline


def _at(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "now"
