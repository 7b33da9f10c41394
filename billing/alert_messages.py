"""Which words go with which alert."""

from collections.abc import Callable, Mapping
from typing import Any

from billing.alerts import Alert
from billing.dead_event_messages import dead_event_words
from billing.incident_messages import Words, incident_message
from billing.night_messages import night_words

WORDS: Mapping[str, Callable[[Mapping[str, Any]], Words]] = {
    "dead_events": dead_event_words,
    "webhook_reliability": night_words,
}
"""By what stands before the first colon of the key; the same name is a section of docs/runbook.md."""


def write_message(alert: Alert, runbook_url: str | None = None) -> dict[str, Any]:
    """Text and blocks for Slack."""
    return incident_message(alert, WORDS[alert.key.partition(":")[0]](alert.facts), runbook_url)
