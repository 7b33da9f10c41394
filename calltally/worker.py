"""The worker: one long-lived process that runs `process_webhooks` as soon as something waits in the inbox.

Postgres says that something arrived (LISTEN), a slow poll is the safety net, and Prefect records each run. While the
Prefect server is away, events wait, nothing is lost, and Slack is told by calltally/prefect_watch.py.
"""

import asyncio
import logging
from contextlib import suppress
from uuid import UUID

import psycopg
from httpx import HTTPError
from prefect.context import AsyncClientContext
from prefect.exceptions import PrefectException
from sqlalchemy import Engine

from billing.database import transaction, value
from billing.errors import BillingError
from billing.inbox import Event, in_words, is_untouched, peek
from billing.metrics import count_runs_from_zero
from billing.process import get_engine, process_name
from billing.settings import get_settings
from calltally.metrics import serve_metrics
from calltally.pause import Pause
from calltally.prefect_watch import PrefectWatch
from calltally.stack.automations import install_automations
from calltally.stack.deployments import install_deployments, read_deployments
from calltally.stack.run_watch import RunWatch
from calltally.stack.warm_worker import DeploymentGoneError, WarmWorker, run_deployed
from flows.process_webhooks import process_webhooks
from tasks.inbox import are_suspects_in_hand

log = logging.getLogger("billing.worker")

POLL_SECONDS = 2.0
"""How long an event waits at most if its notification got lost."""
HEARTBEAT_SECONDS = 5.0
PAUSE_SECONDS = 3.0
"""Before the next try while Prefect is away."""
STOP_SECONDS = 20.0
"""What is under way may finish when the worker is told to stop; leases bring back the rest."""


class Worker:
    """Turns notifications into flow runs, until it is cancelled."""

    def __init__(self, engine: Engine, *, max_runs: int, batch_limit: int) -> None:
        """At most `max_runs` flow runs at once, of at most `batch_limit` events each."""
        self._engine = engine
        self._max_runs = max_runs
        self._batch_limit = batch_limit
        self._arrival = asyncio.Event()
        self._runs: set[asyncio.Task[None]] = set()
        self._deployment_id: UUID | None = None
        self._pause = Pause(engine, get_settings())

    async def work(self) -> None:
        """Run until cancelled; then wait for what is under way."""
        watch = PrefectWatch(self._engine, get_settings())
        duties = [self._drain_inbox(), self._listen(), self._beat_heart(), self._serve_schedule()]
        duties += [watch.watch(), RunWatch().watch()]
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._runs:
                await asyncio.wait(self._runs, timeout=STOP_SECONDS)

    async def _drain_inbox(self) -> None:
        """Start a run whenever events wait, on everything that waits; the next one when those are applied.

        So a burst shares a run, and what fails is retried by its run while the next one is under way. The first run
        is made whether any wait or not: it takes what an earlier worker left, and warms up Prefect.
        """
        await self._run_once("start of a worker")
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrival.wait(), POLL_SECONDS)
            self._arrival.clear()
            try:
                while len(self._runs) < self._max_runs and (waiting := await self._waiting()):
                    run = asyncio.create_task(self._run_once(in_words(waiting)))
                    self._runs.add(run)
                    run.add_done_callback(self._runs.discard)
                    await self._until_applied(waiting[0].id, run)
                if not self._runs:  # nothing waits, though a scheduled run may have been the one that applied it
                    await self._pause.end()
            except BillingError as error:
                await self._pause.begin(error)

    async def _waiting(self) -> list[Event]:
        """What a run can take, once the pause is over; suspects are left to the run that has them in hand."""
        await self._pause.over()
        together = await asyncio.to_thread(peek, self._engine)
        if together or are_suspects_in_hand():
            return together
        return await asyncio.to_thread(peek, self._engine, suspects=True)

    async def _until_applied(self, event_id: int, run: asyncio.Task[None]) -> None:
        """Wait until the run has dealt with its first event; its retries go on alone, and so do its suspects."""
        in_hand = are_suspects_in_hand()
        while not run.done() and await asyncio.to_thread(is_untouched, self._engine, event_id):
            if are_suspects_in_hand() and not in_hand:
                break
            await asyncio.wait([run], timeout=0.02)

    async def _run_once(self, name: str) -> None:
        """One flow run; while nothing can be applied the next one waits, as for a Prefect server that is away."""
        try:
            if self._deployment_id is None:
                self._deployment_id = (await install_deployments())["process_webhooks"]
                await install_automations(get_settings().slack_webhook_url)
            await run_deployed(process_webhooks, self._deployment_id, {"batch_limit": self._batch_limit}, name)
            await self._pause.end()
        except DeploymentGoneError:
            log.warning("worker.deployment_lost: installing the deployments again")
            self._deployment_id = None
        except BillingError as error:
            await self._pause.begin(error)
        except (HTTPError, PrefectException, RuntimeError, OSError) as error:
            log.warning("worker.prefect_away error=%s: events wait until it is back", type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        """Hear of arrivals at once; a lost connection is opened again, and the poll bridges the gap."""
        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                    await connection.execute("LISTEN calltally_events")
                    self._arrival.set()
                    async for _ in connection.notifies():
                        self._arrival.set()
            except psycopg.Error as error:
                log.warning("worker.not_listening error=%s", type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _beat_heart(self) -> None:
        def beat() -> None:
            with transaction(self._engine) as connection:
                value(connection, "SELECT beat_heart(:worker)", worker=process_name())

        while True:
            with suppress(BillingError):
                await asyncio.to_thread(beat)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _serve_schedule(self) -> None:
        """Runs that Prefect schedules, or that people start in its UI, happen in this process too."""
        while True:
            try:
                await WarmWorker("webhooks", name=process_name()).start()
            except (HTTPError, PrefectException, RuntimeError, OSError) as error:
                log.warning("worker.schedule_away error=%s", type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)


async def work() -> None:
    """Be a worker until cancelled, with one Prefect client for all runs."""
    settings = get_settings()
    worker = Worker(get_engine(), max_runs=settings.worker_max_runs, batch_limit=settings.worker_batch_limit)
    count_runs_from_zero(each.name for each in read_deployments() if each.work_pool.name == "webhooks")
    with serve_metrics(settings):
        while True:
            try:
                async with AsyncClientContext.get_or_create():
                    await worker.work()
            except (HTTPError, RuntimeError) as error:
                log.warning("worker.prefect_away error=%s: events wait until it is back", type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)
