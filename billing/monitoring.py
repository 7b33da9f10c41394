"""Applies the rules: looks, notes, and makes a table of what is well and what is not."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from billing.alerts import Told, note_condition
from billing.database import rows, transaction
from billing.rules.registry import RULES
from billing.rules.rule import Condition, Rule
from billing.settings import Settings

STATES = {True: "FAILING", False: "ok", None: "cannot tell"}


def look(engine: Engine, rule: Rule, settings: Settings, now: datetime) -> list[Condition]:
    """What the rule finds, in a transaction of its own; one that notes itself has then done so."""
    with transaction(engine) as connection:
        return rule.look(connection, settings, now)


def note(engine: Engine, conditions: Sequence[Condition]) -> None:
    """Open, keep or close the incidents of what was found."""
    by_themselves = {rule.name for rule in RULES if rule.notes_itself}
    for condition in conditions:
        if condition.failing is None or condition.key.partition(":")[0] in by_themselves:
            continue
        note_condition(engine, condition.key, condition.failing, condition.facts, condition.severity)


def run_name(failing: int, rows: int, told: Sequence[Told]) -> str:
    """What a person reads of a look among others; that Slack could not be told is seen nowhere sooner."""
    found = f"{failing} of {rows} conditions fail" if failing else "all is well"
    unsent = [message for message in told if message.failed]
    return f"{found}; {len(unsent)} not told, {unsent[0].outcome}" if unsent else found


def health_rows(engine: Engine, conditions: Sequence[Condition], told: Sequence[Told] = ()) -> list[dict[str, str]]:
    """One row per condition, failing ones first; one per open incident of others, such as a night's; and Slack."""
    with transaction(engine) as connection:
        found = rows(
            connection, "SELECT key, severity, opened_at FROM incidents WHERE closed_at IS NULL ORDER BY key"
        )
    opened = {row["key"]: row for row in found}
    measured = {condition.key: condition.measured for condition in conditions}
    states = {condition.key: STATES[condition.failing] for condition in conditions}
    table = [
        {
            "rule": key,
            "state": STATES[True] if key in opened else states[key],
            "severity": opened[key]["severity"] if key in opened else "",
            "since": f"{opened[key]['opened_at']:%Y-%m-%d %H:%M} UTC" if key in opened else "",
            "measured": measured.get(key, "see its last message"),
            "runbook": f"docs/runbook.md, section {key.partition(':')[0]}",
        }
        for key in [*states, *(key for key in opened if key not in states)]
    ]
    table.append(_channel(told))
    return sorted(table, key=lambda row: row["state"] != STATES[True])


def _channel(told: Sequence[Told]) -> dict[str, str]:
    """Whether messages go out, as a row of the table."""
    unsent = [message for message in told if message.failed]
    held = sum(not message.failed and not message.sent for message in told)
    counts = f"{sum(message.sent for message in told)} sent" + (f", {held} held back by quiet hours" if held else "")
    return {
        "rule": "messages to Slack",
        "state": STATES[bool(unsent)],
        "severity": "",
        "since": "",
        "measured": f"{len(unsent)} not sent, {unsent[0].outcome}" if unsent else counts,
        "runbook": "docs/runbook.md, section alerts_unsent",
    }
