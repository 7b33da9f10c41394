"""Is everything there that billing needs? Read from Postgres, which all processes share, and from Prefect."""

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
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

METRICS = {
    "waiting": "waiting",
    "active": "active",
    "delayed": "delayed",
    "completed": "finished",
    "failed": "dead",
    "paused": "parked",
}
"""The names that operators know from the earlier system, and ours."""


class Health:
    """Answers `GET /health`. It asks the database in a thread of its own, so a hanging one takes no other."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._started = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._client = httpx.AsyncClient(timeout=CHECK_SECONDS)

    async def close(self) -> None:
        """Let go of what the checks use."""
        await self._client.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and the answer's body."""
        loop = asyncio.get_running_loop()
        database, prefect = await asyncio.gather(
            _within(loop.run_in_executor(self._thread, self._read_database)), _within(self._ask_prefect())
        )
        seen = database or {"worker": False, "oldest_waiting": None, "metrics": dict.fromkeys(METRICS)}
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
            queue = rows(connection, "SELECT * FROM queue_metrics()")[0]
        return {
            "worker": bool(workers),
            "oldest_waiting": queue["oldest_waiting_at"],
            "metrics": {name: queue[ours] for name, ours in METRICS.items()},
        }

    async def _ask_prefect(self) -> bool:
        if self._settings.prefect_api_url is None:
            return False
        answer = await self._client.get(f"{self._settings.prefect_api_url.rstrip('/')}/health")
        return answer.status_code == httpx.codes.OK


async def _within(check: Awaitable[T]) -> T | None:
    """The check's answer, or None if it failed or took too long."""
    try:
        return await asyncio.wait_for(check, CHECK_SECONDS)
    except Exception:  # noqa: BLE001 - a health check reports every failure the same way
        return None


def _word(up: bool) -> str:
    return "up" if up else "down"
