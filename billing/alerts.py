"""Alerts that wait to be sent: written before anybody is told, so that none is lost with its sender."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine

from billing.database import rows, transaction, value

WINDOW = timedelta(hours=1)
"""One message per kind of error and window; what dies in between is counted in the next one."""


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that nobody was told of yet."""

    id: int
    key: str
    facts: Mapping[str, Any]


def open_dead_event_alerts(engine: Engine) -> list[OpenAlert]:
    """Open what is due for events that died, and answer with all alerts that are not sent."""
    with transaction(engine) as connection:
        found = rows(
            connection, "SELECT id, key, facts FROM open_dead_event_alerts(:window) ORDER BY id", window=WINDOW
        )
    return [OpenAlert(**row) for row in found]


def note_alert(engine: Engine, alert: OpenAlert, outcome: str) -> None:
    """Keep what came of sending it; only `sent` ends it."""
    with transaction(engine) as connection:
        value(connection, "SELECT note_alert(:id, :outcome)", id=alert.id, outcome=outcome)
