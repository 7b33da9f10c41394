"""What the tests of flows have in common: calls, webhooks in the inbox, and a look at Prefect's records."""

import asyncio
import json
import os
import re
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, State, TaskRun
from prefect.context import AsyncClientContext
from prefect.flow_engine import run_flow_async
from prefect.states import Pending, Scheduled
from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from billing.deliveries import IDENTIFY
from billing.inbox import accept
from billing.process import PROCESS_VARIABLE, become, get_engine
from calltally.sandbox.calls import Call, Route
from calltally.sandbox.messages import Message
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi_webhooks import end_of_call_report
from calltally.stack.deployments import install_deployments, read_deployments
from tests.books import Books, Row

T = TypeVar("T")

LOOP = asyncio.Runner()
"""One loop for all runs, as a worker has it: Prefect keeps connections open in it."""

FAIL_CALLS = """
CREATE SEQUENCE failures;
GRANT USAGE ON SEQUENCE failures TO PUBLIC;
CREATE FUNCTION fail_call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.id = '{call_id}' AND nextval('failures') <= {times} THEN
        RAISE EXCEPTION 'this call is unlucky' USING ERRCODE = '{sqlstate}';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER fail_call BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION fail_call();
"""


@dataclass(frozen=True)
class Stage:
    """A process of calltally beside its database, its providers and a real Prefect server."""

    engine: Engine
    books: Books
    sandbox: RunningSandbox
    organization_id: UUID
    day: tuple[datetime, datetime]

    def place_calls(self, count: int, assistant: str = "asst-acme", **traffic: Any) -> list[Call]:
        """Calls at the provider that all connected and ended, unless fields of Traffic say otherwise."""
        start, end = self.day
        chosen = {"never_connected_share": 0.0, "detail": "slim", **traffic}
        return self.sandbox.vapi.place_calls(Traffic(count, (Route(assistant_id=assistant),), start, end, **chosen))

    def report(self, calls: Iterable[Call]) -> None:
        """Their end-of-call reports lie in the inbox."""
        self.receive("vapi", [end_of_call_report(call) for call in calls])

    def pay(self, amount_minor: int) -> None:
        """Both events of a payment lie in the inbox."""
        payment = Payment(amount_minor, client_reference_id=str(self.organization_id))
        topup = self.sandbox.stripe.pay_topup(payment, at=datetime.now(UTC))
        self.receive("stripe", self.sandbox.stripe.messages(topup.events))

    def receive(self, provider: str, messages: Iterable[Message]) -> None:
        """Store what the receiver would store."""
        accept(self.engine, [IDENTIFY[provider](message.body) for message in messages])

    def states(self) -> dict[str, int]:
        """How many events are in each state."""
        found = self.books.rows("SELECT state, count(*) AS events FROM events GROUP BY state")
        return {row["state"]: row["events"] for row in found}

    def event(self, call: Call) -> Row:
        """The event of a call's report."""
        return self.books.rows("SELECT * FROM events WHERE starts_with(delivery_key, :id)", id=call.id)[0]

    def attempts(self, call: Call) -> list[Row]:
        """The failed attempts at a call's report."""
        return self.books.rows(
            "SELECT * FROM event_attempts WHERE event_id = :id ORDER BY attempt", id=self.event(call)["id"]
        )

    def fail(self, call: Call, times: int, sqlstate: str = "40P01") -> None:
        """Let the database refuse this call so often, as a deadlock does unless told otherwise."""
        as_owner(self.engine, FAIL_CALLS.format(call_id=call.id, times=times, sqlstate=sqlstate))

    def charged(self) -> set[str]:
        """The calls that are charged."""
        return {row["id"] for row in self.books.rows("SELECT right(idempotency_key, -5) AS id FROM charges")}


def as_owner(engine: Engine, statements: str) -> None:
    """Execute statements as the user who owns everything."""
    with psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute(statements.encode())


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, with the settings of the running test."""
    return LOOP.run(work, context=copy_context())


@cache
def deployment_ids() -> dict[str, UUID]:
    """The deployments by name, installed once."""
    return in_loop(install_deployments())


@dataclass(frozen=True)
class Run:
    """A flow run that has ended, as Prefect recorded it."""

    id: UUID
    name: str
    state: State[Any]
    result: Any
    """What the flow returned, or its error."""


@contextmanager
def acting_as(process: str) -> Iterator[None]:
    """Within the block the books are open to a process of that name, and no further."""
    _let_go()
    become(process)
    try:
        yield
    finally:
        _let_go()
        del os.environ[PROCESS_VARIABLE]


_LEFT: list[Engine] = []
"""Of processes that are over; a run that its time limit ended may leave a thread behind that still uses one."""


def _let_go() -> None:
    _LEFT.append(get_engine())
    get_engine.cache_clear()
    for engine in list(_LEFT):
        if cast("QueuePool", engine.pool).checkedout() == 0:
            engine.dispose()
            _LEFT.remove(engine)


def run(flow: Any, scheduled: datetime | None = None, **parameters: Any) -> Run:
    """Run a flow as a run of its deployment, in the role of the process that serves its pool.

    `scheduled` is when it was meant to begin.
    """

    deployment_id = deployment_ids()[flow.name]

    async def scenario() -> Run:
        async with AsyncClientContext.get_or_create() as context:
            begun = await context.client.create_flow_run_from_deployment(
                deployment_id,
                parameters=parameters,
                state=Pending() if scheduled is None else Scheduled(scheduled_time=scheduled),
            )
            state = await run_flow_async(flow, flow_run=begun, parameters=parameters, return_type="state")
            assert isinstance(state, State)
            known = await context.client.read_flow_run(begun.id)
            return Run(begun.id, known.name, state, await state.aresult(raise_on_failure=False))

    (pool,) = {each.work_pool.name for each in read_deployments() if each.name == flow.name}
    with acting_as({"webhooks": "worker"}.get(pool, pool)):
        return in_loop(scenario())


def task_runs(flow_run_id: UUID, ended: int) -> list[TaskRun]:
    """Prefect's records of a run's tasks, once so many have ended: it writes them down a little later."""

    async def until_recorded() -> list[TaskRun]:
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        async with get_client() as client:
            while True:
                known = await client.read_task_runs(flow_run_filter=of_run)
                over = [task_run for task_run in known if task_run.state is not None and task_run.state.is_final()]
                if len(over) >= ended:
                    return over
                await asyncio.sleep(0.1)

    return in_loop(until_recorded())


def artifacts(flow_run_id: UUID) -> dict[str, Artifact]:
    """What a run shows in Prefect's UI, by key."""

    async def read() -> list[Artifact]:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        async with get_client() as client:
            return await client.read_artifacts(artifact_filter=wanted)

    return {artifact.key: artifact for artifact in in_loop(read()) if artifact.key}


def table(artifact: Artifact) -> list[dict[str, Any]]:
    """The rows of a table as Prefect's UI shows them: each text is Markdown."""
    assert isinstance(artifact.data, str)
    return [
        {
            name: re.sub(r"\\([^\w\s]|_)", r"\1", content) if isinstance(content, str) else content
            for name, content in row.items()
        }
        for row in json.loads(artifact.data)
    ]
