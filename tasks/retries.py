"""When Prefect tries a task again."""

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from billing.errors import TransientError

RETRIES = 3
DELAYS_SECONDS: list[float] = [2, 4, 8]


async def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only errors that may pass are worth a retry."""
    try:
        await state.aresult()
    except TransientError:
        return True
    except Exception:  # noqa: BLE001 - whatever else it is, it will not pass
        return False
    return False
