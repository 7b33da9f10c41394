"""A run that hangs shows signs of life for ever, so each flow has its time limit."""

import asyncio
from contextlib import suppress
from uuid import UUID

import psycopg

from flows.monitor_billing import monitor_billing
from tasks.books import watched_over

from .stage import Stage, in_loop, run


def test_look_that_hangs_ends_its_run_and_lets_the_next_one_begin(stage: Stage) -> None:
    """It does not keep the watch waiting."""
    hanging = monitor_billing.with_options(timeout_seconds=1)
    with psycopg.connect(
        str(stage.engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    ) as other:
        other.execute("LOCK TABLE wallets")
        ended = run(hanging)

    assert ended.state.name == "TimedOut"
    assert run(monitor_billing).state.is_completed()


def test_night_that_takes_too_long_is_noted_as_failed(stage: Stage) -> None:
    """What ends it is no error of its own: a time limit, or a person."""
    run_id: UUID = stage.books.value(
        "INSERT INTO reconciliation_runs (window_from, window_to) VALUES ('2026-07-01', '2026-07-02') RETURNING id"
    )

    async def hang(begun: asyncio.Event) -> None:
        async with watched_over(run_id):
            begun.set()
            await asyncio.Event().wait()

    async def scenario() -> None:
        begun = asyncio.Event()
        night = asyncio.create_task(hang(begun))
        await begun.wait()
        night.cancel()
        with suppress(asyncio.CancelledError):
            await night

    in_loop(scenario())

    [noted] = stage.books.rows("SELECT state, error FROM reconciliation_runs WHERE id = :id", id=run_id)
    assert (noted["state"], "took too long" in noted["error"]) == ("failed", True)
