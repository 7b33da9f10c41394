"""With Dask the night lists and compares in other processes, and comes to the same books."""

import os
from collections.abc import Callable, Iterator

import pytest
from prefect_dask.task_runners import DaskTaskRunner

from billing.settings import get_settings
from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls
from tasks.fan_out import LOCAL_CLUSTER, task_runner

from .stage import Stage, run

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


def test_night_on_a_cluster_of_processes_bills_the_same(dask: Stage) -> None:
    """Every lost call once, none twice; the lists were read elsewhere."""
    calls = dask.place_calls(12)
    dask.report(calls[4:])
    run(process_webhooks)
    runner = task_runner()
    night = run(reconcile_calls.with_options(task_runner=runner))
    row = dask.books.rows("SELECT * FROM reconciliation_runs")[0]

    assert isinstance(runner, DaskTaskRunner)
    assert LOCAL_CLUSTER["processes"]
    assert night.state.is_completed()
    assert dask.charged() == {call.id for call in calls}
    assert (row["ended_calls"], row["ended_by_webhook"], row["recovered_calls"]) == (12, 8, 4)
    assert os.environ["DASK_SCHEDULER"] == "local"
    assert dask.books.broken() == []
