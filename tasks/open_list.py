"""The provider's list, opened once for all stretches that a process reads of it for one run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

import pandas as pd

from billing.night_windows import Span
from billing.settings import get_settings
from billing.vapi_client import connect_vapi
from billing.vapi_list import CallLister
from tasks.progress import progress_of

_listers: dict[UUID, CallLister] = {}


@asynccontextmanager
async def list_opened(run_id: UUID, processes: int = 1) -> AsyncIterator[None]:
    """Let all stretches of a run share connections, and what one has learned of the provider.

    `processes` of the run do so at once, this one among them.
    """
    async with connect_vapi(get_settings(), processes=processes) as client:
        _listers[run_id] = CallLister(client)
        try:
            yield
        finally:
            del _listers[run_id]


async def read_span(run_id: UUID, span: Span, processes: int = 1) -> pd.DataFrame:
    """One stretch; in a process other than the flow's, one of so many, with connections of its own."""
    if run_id not in _listers:
        async with list_opened(run_id, processes):
            return await read_span(run_id, span)
    progress = progress_of(run_id)
    return await _listers[run_id].list_window(
        span.clock,
        span.start,
        span.end,
        created_before=span.created_before,
        on_progress=partial(progress.listed, span) if progress else None,
    )
