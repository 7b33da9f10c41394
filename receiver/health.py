"""Is everything there that billing needs? Read from Postgres, which all processes share, and from Prefect."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import Engine

from billing.prefect_probe import PrefectProbe
from billing.probe import Probe, Reader
from billing.settings import Settings

WORKER_SILENCE: Final = timedelta(seconds=20)
"""A worker beats every 5 s; one that missed three beats is not there."""

METRICS: Final = {
    "waiting": "waiting",
    "active": "active",
    "delayed": "delayed",
    "completed": "finished",
    "failed": "dead",
    "paused": "parked",
}
"""The names that operators know from the earlier system, and ours."""

PAUSED: Final = "paused"
WHY_PAUSED: Final = "it pauses, since the database refuses what it needs; calltally status says what"

ESSENTIALS: Final = """
SELECT
    EXISTS (SELECT FROM workers WHERE seen_at > now() - %(silence)s) AS worker,
    EXISTS (SELECT FROM incidents WHERE key = 'worker_paused' AND closed_at IS NULL) AS paused,
    now() - least(
        (SELECT received_at FROM events WHERE id = oldest_waiting_event()),
        (SELECT min(received_at) FROM events WHERE state IN ('active', 'delayed'))
    ) AS waited
"""
"""In the hands of a worker that hangs, an event waits no less than in line."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the database says. `counts` is None if counting took too long, as with millions of waiting events."""

    worker: bool
    paused: bool
    waited: timedelta | None
    counts: dict[str, int] | None


class Health:
    """Answers `GET /health` within a second, whatever hangs: both checks are bounded, and made at the same time.

    Everybody may ask, so however many do, the database and Prefect are asked once at a time; and the answer names
    no address, no organization and no error.
    """

    def __init__(self, engine: Engine, settings: Settings, prefect: PrefectProbe) -> None:
        """`prefect` stays the caller's."""
        self._settings = settings
        self._started = time.monotonic()
        self._database = Probe(engine, _read)
        self._prefect = prefect

    def close(self) -> None:
        """Let go of the connection."""
        self._database.close()

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and the answer's body."""
        seen, trouble = await asyncio.gather(self._database.ask(), self._prefect.trouble())
        paused = seen is not None and seen.worker and seen.paused
        late = seen is not None and seen.waited is not None and seen.waited > self._settings.health_max_waiting
        services = {
            "database": _word(seen is not None),
            "prefect": _word(trouble is None),
            "worker": PAUSED if paused else _word(seen is not None and seen.worker),
            "webhookQueue": "late" if late else _word(seen is not None),
        }
        healthy = set(services.values()) == {"up"}
        counts = seen.counts if seen is not None else None
        return healthy, {
            "status": "healthy" if healthy else "unhealthy",
            "services": services,
            "timestamp": datetime.now(UTC).isoformat(),
            "uptime": round(time.monotonic() - self._started, 1),
            "queueMetrics": dict.fromkeys(METRICS) if counts is None else {n: counts[o] for n, o in METRICS.items()},
            "details": {"worker": WHY_PAUSED} if paused else {},
        }


def _read(reader: Reader) -> _Seen:
    essentials = reader.execute(ESSENTIALS, {"silence": WORKER_SILENCE}).fetchone()
    if essentials is None:
        raise LookupError("a SELECT without FROM answers with one row")
    counts = None
    with suppress(psycopg.errors.QueryCanceled):
        counts = reader.execute("SELECT * FROM queue_metrics()").fetchone()
    return _Seen(**essentials, counts=counts)


def _word(up: bool) -> str:
    return "up" if up else "down"
