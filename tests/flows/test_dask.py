"""With Dask the night lists and compares in other processes, and comes to the same books."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from dask.system import CPU_COUNT
from prefect_dask.task_runners import DaskTaskRunner

from billing.settings import get_settings
from flows import reconcile_calls as flow
from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls
from tasks import books
from tasks.fan_out import processes_for, task_runner

from .stage import Stage, run

LISTED_SPANS = 5
"""Four days by creation, and one by change."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def dask(
    stage: Stage, prefect_api: str, changed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """The stage, with the setting; the cluster's processes inherit the environment."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    changed(DASK_SCHEDULER="local")
    yield stage
    get_settings.cache_clear()


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process asks over HTTP; it also refuses to compare."""
    asked: list[str] = []
    usual = httpx.AsyncClient.send

    async def note(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        asked.append(request.url.path)
        return await usual(self, request, **options)

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError(f"compared in process {os.getpid()}, which runs the flow")

    monkeypatch.setattr(httpx.AsyncClient, "send", note)
    monkeypatch.setattr(books, "find_differences", refuse)
    return asked


def test_night_on_a_cluster_of_processes_bills_the_same(
    dask: Stage, asked_here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every lost call once, none twice; the lists were read and compared elsewhere, at one rate in all."""
    shares: list[int] = []

    async def note(tasks: int) -> int:
        shares.append(await processes_for(tasks))
        return shares[-1]

    monkeypatch.setattr(flow, "processes_for", note)
    calls = dask.place_calls(12)
    dask.report(calls[4:])
    run(process_webhooks)
    runner = task_runner()
    night = run(reconcile_calls.with_options(task_runner=runner))
    row = dask.books.rows("SELECT * FROM reconciliation_runs")[0]

    assert isinstance(runner, DaskTaskRunner)
    assert night.state.is_completed()
    assert dask.charged() == {call.id for call in calls}
    assert (row["ended_calls"], row["ended_by_webhook"], row["recovered_calls"]) == (12, 8, 4)
    assert any(path.endswith("/analytics") for path in asked_here)
    assert not any(path.endswith("/call") for path in asked_here)
    assert any(request.startswith("GET /call") for request in dask.sandbox.vapi.faults.requests)
    assert shares == [min(CPU_COUNT, LISTED_SPANS)]
    assert dask.books.broken() == []
