"""When Prefect tries a task again."""

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from billing.errors import TransientError

DELAYS_SECONDS: list[float] = [2, 4, 8]
RETRIES = len(DELAYS_SECONDS)
TRIES = 2 + RETRIES
"""How often an event is tried that fails in a way that can pass: among others, at once alone, after each delay."""


async def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only errors that may pass are worth a retry."""
    return isinstance(await _error(state), TransientError)


async def is_its_own(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """The same for an event: while nothing can be applied it is not ours any more, but back in line."""
    error = await _error(state)
    return isinstance(error, TransientError) and not error.affects_everything


async def _error(state: State[Any]) -> BaseException | None:
    try:
        await state.aresult()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    return None
