"""What waits in the inbox, by provider and type, in the names of `GET /health` too."""

from collections import defaultdict
from typing import Any, Final

from sqlalchemy import Engine

from billing.database import rows, transaction
from billing.errors import DatabaseUnavailable
from receiver.health import METRICS

SECONDS: Final = 2
"""For each of the questions; what takes longer, as counting millions of events does, is answered with null."""
CANCELED: Final = "57014"

TOTALS: Final = "SELECT waiting, active, delayed, parked, dead, finished FROM queue_metrics()"
UNFINISHED: Final = """
SELECT
    provider, type, state, count(*) AS events,
    extract(epoch FROM now() - min(received_at))::float8 AS oldest_seconds
FROM events
WHERE state IN ('waiting', 'active', 'delayed', 'parked', 'dead')
GROUP BY provider, type, state
ORDER BY provider, type, state
"""
FINISHED: Final = """
SELECT provider, type, 'finished' AS state, count(*) AS events
FROM events
WHERE state IN ('done', 'skipped')
GROUP BY provider, type
"""

Row = dict[str, Any]


def queue_stats(engine: Engine) -> dict[str, Any]:
    """Totals, unfinished events with the age in seconds of the oldest, and everything by the names of health.

    Raises:
        BillingError: the database is away.
    """
    totals, unfinished, finished = (_ask(engine, query) for query in (TOTALS, UNFINISHED, FINISHED))
    total = totals[0] if totals else None
    return {
        "totals": total,
        "queue": unfinished,
        "queueMetrics": {name: total and total[state] for name, state in METRICS.items()},
        "byProvider": _counted(("provider",), unfinished, finished),
        "byType": _counted(("provider", "type"), unfinished, finished),
    }


def _ask(engine: Engine, query: str) -> list[Row] | None:
    """The rows; None if finding them takes too long."""
    try:
        with transaction(engine) as connection:
            rows(connection, "SELECT set_config('statement_timeout', :seconds, true)", seconds=f"{SECONDS}s")
            return rows(connection, query)
    except DatabaseUnavailable as error:
        if error.facts.get("sqlstate") != CANCELED:
            raise
        return None


def _counted(by: tuple[str, ...], unfinished: list[Row] | None, finished: list[Row] | None) -> list[Row]:
    """One row for each provider or type with all six counts; null for those that are not known."""
    counts: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in [*(unfinished or []), *(finished or [])]:
        counts[tuple(row[name] for name in by)][row["state"]] += row["events"]
    unknown = {state for state in METRICS.values() if (finished if state == "finished" else unfinished) is None}
    return [
        dict(zip(by, key, strict=True))
        | {name: None if state in unknown else counts[key][state] for name, state in METRICS.items()}
        for key in sorted(counts)
    ]
