"""Which words go with which alert."""

from collections.abc import Callable, Mapping
from typing import Any

from billing import prefect_down, worker_paused
from billing.alerts import Alert
from billing.incident_messages import Words, incident_message
from billing.literal import visible_throughout
from billing.night_messages import night_words
from billing.rules.registry import RULES
from billing.summary_messages import heartbeat_message, summary_message

WORDS: Mapping[str, Callable[[Mapping[str, Any]], Words]] = {
    "webhook_reliability": night_words,
    prefect_down.NAME: prefect_down.words,
    worker_paused.NAME: worker_paused.words,
    **{rule.name: rule.words for rule in RULES},
}
"""By what stands before the first colon of the key; the same name is a section of docs/runbook.md."""


def write_message(alert: Alert, runbook_url: str | None = None) -> dict[str, Any]:
    """Text and blocks for Slack; no fact of an alert makes a line of its own."""
    facts = visible_throughout(alert.facts)
    if alert.kind == "summary":
        return summary_message(facts)
    if alert.kind == "heartbeat":
        return heartbeat_message(facts)
    return incident_message(alert, WORDS[alert.key.partition(":")[0]](facts), runbook_url)
