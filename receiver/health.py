"""Is everything there that billing needs? Read from Postgres, which all processes share, and from Prefect."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
from sqlalchemy import Engine

from billing.database import rows, transaction
from billing.settings import Settings

T = TypeVar("T")

CHECK_SECONDS = 0.8
"""Whatever hangs, the answer comes within a second."""

WORKER_SILENCE = timedelta(seconds=20)
"""A worker beats every 5 s; one that missed three beats is not there."""

METRIC_BY_STATE = {
    "waiting": "waiting",
    "active": "active",
    "delayed": "delayed",
    "done": "completed",
    "skipped": "completed",
    "dead": "failed",
    "parked": "paused",
}
"""Our states under the names that operators know from the earlier system."""


class Health:
    """Answers `GET /health`."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._started = time.monotonic()

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and the answer's body."""
        database, prefect = await asyncio.gather(
            _within(lambda: asyncio.to_thread(self._read_database)), _within(self._ask_prefect)
        )
        seen = database or {"worker": False, "oldest_waiting": None, "metrics": dict.fromkeys(_METRICS)}
        oldest = seen["oldest_waiting"]
        late = oldest is not None and datetime.now(UTC) - oldest > self._settings.health_max_waiting
        services = {
            "database": _word(database is not None),
            "prefect": _word(bool(prefect)),
            "worker": _word(seen["worker"]),
            "webhookQueue": "late" if late else _word(database is not None),
        }
        healthy = set(services.values()) == {"up"}
        return healthy, {
            "status": "healthy" if healthy else "unhealthy",
            "services": services,
            "timestamp": datetime.now(UTC).isoformat(),
            "uptime": round(time.monotonic() - self._started, 1),
            "queueMetrics": seen["metrics"],
        }

    def _read_database(self) -> dict[str, Any]:
        with transaction(self._engine) as connection:
            workers = rows(
                connection, "SELECT FROM workers WHERE seen_at > now() - :silence LIMIT 1", silence=WORKER_SILENCE
            )
            queue = rows(
                connection,
                "SELECT state, sum(events)::bigint AS events, min(oldest_received_at) AS oldest"
                " FROM event_queue GROUP BY state",
            )
        metrics = dict.fromkeys(_METRICS, 0)
        for row in queue:
            metrics[METRIC_BY_STATE[row["state"]]] += row["events"]
        oldest = next((row["oldest"] for row in queue if row["state"] == "waiting"), None)
        return {"worker": bool(workers), "oldest_waiting": oldest, "metrics": metrics}

    async def _ask_prefect(self) -> bool:
        if self._settings.prefect_api_url is None:
            return False
        async with httpx.AsyncClient(timeout=CHECK_SECONDS) as client:
            answer = await client.get(f"{self._settings.prefect_api_url}/health")
        return answer.status_code == httpx.codes.OK


_METRICS = ("waiting", "active", "delayed", "completed", "failed", "paused")


async def _within(check: Callable[[], Awaitable[T]]) -> T | None:
    """The check's answer, or None if it failed or took too long."""
    try:
        return await asyncio.wait_for(check(), CHECK_SECONDS)
    except Exception:  # noqa: BLE001 - a health check reports every failure the same way
        return None


def _word(up: bool) -> str:  # noqa: FBT001 - reads as a sentence where it is used
    return "up" if up else "down"
