"""A night whose process is killed at one of its steps: `python -m tests.flows.dying_night STEP PARAMETERS` (JSON)."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import flows.reconcile_calls as night_flow
from billing import known_calls, plans, repair, report, runs, slack, vapi_list
from calltally.stack.deployments import install_deployments
from calltally.stack.warm_worker import run_deployed
from tasks import publish

STEPS: dict[str, tuple[Any, str, int]] = {
    "after it began": (runs, "start_run", 1),
    "after asking for the totals": (night_flow, "spans", 1),
    "while listing": (vapi_list, "read_columns", 1),
    "after loading the routes": (known_calls, "load_routes", 1),
    "after the first batch of calls": (repair, "record_calls", 1),
    "before it has kept the second batch of calls": (repair, "record", 2),
    "after the second batch of calls": (repair, "record_calls", 2),
    "after correcting": (repair, "correct_calls", 1),
    "after valuing": (repair, "value_calls", 1),
    "after storing the findings": (runs, "finish_run", 1),
    "after telling Slack": (slack, "post", 1),
    "while writing the report": (report, "_publish", 1),
    "after writing the report": (report, "write_report", 1),
    "while showing the result": (publish, "findings_rows", 1),
}
"""Where it dies: the module and function after whose so many-th call, on the side of the world that it changed."""
PLAN_STEPS: dict[str, tuple[Any, str, int]] = {
    "before booking": (known_calls, "load_routes", 1),
    "after booking": (plans, "apply_plan", 1),
    "after storing the findings": (runs, "finish_run", 1),
}
"""The same for one that carries out a plan."""


def main(step: str, parameters: str) -> None:
    """Run the night until it dies."""
    given = json.loads(parameters)
    module, name, times = (PLAN_STEPS if "plan" in given else STEPS)[step]
    repair.BATCH = 2
    setattr(module, name, deadly(getattr(module, name), times))

    async def night() -> None:
        deployment_id = (await install_deployments())["reconcile_calls"]
        await run_deployed(night_flow.reconcile_calls, deployment_id, given, "a night that dies")

    asyncio.run(night())


def deadly(function: Callable[..., Any], times: int) -> Callable[..., Any]:
    """The same function, after whose so many-th call nothing more happens."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        result = function(*arguments, **named)
        calls += 1
        if calls == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


if __name__ == "__main__":
    main(*sys.argv[1:])
