"""The other processes of the night's benchmark: the provider, and the night itself."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from calltally.sandbox.calls import Call, Route
from calltally.sandbox.traffic import Traffic

ORGANIZATIONS = 100
SEED = "night"
LENGTH = timedelta(hours=20)
CACHE_BYTES = 4_000_000_000


def traffic(count: int, end: datetime) -> Traffic:
    """Calls of one day, all of them connected, slim."""
    routes = tuple(Route(assistant_id=f"bench-{number}") for number in range(ORGANIZATIONS))
    return Traffic(count, routes, end - LENGTH, end, never_connected_share=0.0, detail="slim")


def calls_of(count: int, end: datetime) -> Iterator[Call]:
    """The same calls in every process that asks."""
    from calltally.sandbox.traffic import generate_calls  # noqa: PLC0415

    return generate_calls(traffic(count, end), SEED)


def provide(count: int, end: datetime, port: int) -> None:
    """Serve Vapi's list of these calls, encoded beforehand."""
    import uvicorn  # noqa: PLC0415 - each process loads only what it needs

    from calltally.sandbox.server import sandbox_app  # noqa: PLC0415
    from calltally.sandbox.serving import server_config  # noqa: PLC0415
    from calltally.sandbox.vapi import VapiWorld  # noqa: PLC0415
    from calltally.sandbox.world import Sandbox  # noqa: PLC0415

    world = VapiWorld(cache_limit_bytes=CACHE_BYTES)
    world.place_calls(traffic(count, end), seed=SEED)
    world.encode_all()
    config = server_config(sandbox_app(Sandbox(vapi=world)))
    config.port = port
    uvicorn.Server(config).run()


def spend_the_night(window_to: str) -> None:
    """Run the flow as a run of its deployment, and print what it took."""
    from calltally.stack.deployments import install_deployments  # noqa: PLC0415 - Prefect takes seconds to import
    from calltally.stack.warm_worker import run_deployed  # noqa: PLC0415
    from flows.reconcile_calls import reconcile_calls  # noqa: PLC0415
    from tasks.progress import listeners  # noqa: PLC0415

    reached: dict[str, float] = {}
    peaks: dict[str, float] = {}

    async def night() -> tuple[float, float, str]:
        deployment_id = (await install_deployments())["reconcile_calls"]
        cpu, started = time.process_time(), time.perf_counter()

        def note(_share: float, words: str) -> None:
            step = "listing" if words.endswith("listed") else words
            reached[step], peaks[step] = time.perf_counter() - started, peak_megabytes()

        listeners.append(note)
        parameters: dict[str, Any] = {"window_to": window_to}
        run_id = await run_deployed(reconcile_calls, deployment_id, parameters, "night of the benchmark")
        return time.perf_counter() - started, time.process_time() - cpu, run_id

    seconds, cpu_seconds, run_id = asyncio.run(night())
    answer = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "megabytes": peak_megabytes(),
        "run_id": run_id,
        "reached": reached,
        "peaks": peaks,
    }
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def peak_megabytes() -> float:
    """Of this process since it was started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["provide", count, end, port]:
            provide(int(count), datetime.fromisoformat(end).astimezone(UTC), int(port))
        case ["night", end]:
            spend_the_night(end)
