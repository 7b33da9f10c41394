"""`make soak HOURS=24`: run one, and answer with exit code 1 if anything was not as it must be."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from calltally.sandbox.server import running_sandbox
from calltally.sandbox.world import Sandbox
from tests.scenarios.installation import installed

from .soak import Plan, Result, Soak

MINUTES = 10.0
RATE = 200.0
BYTES_PER_DELIVERY = 6_000
"""What one leaves on disk: its body of 4 KB on average, rows and indexes. Nothing is forgotten during a soak."""


def main() -> int:
    """Read the options and run; the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=RATE, help="deliveries per second")
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"), help="where the samples go")
    options = parser.parse_args()
    minutes = options.hours * 60 + options.minutes or MINUTES
    plan = Plan(minutes * 60, options.rate, options.csv)
    if lacking := lacking_space(plan, shutil.disk_usage(tempfile.gettempdir()).free):
        parser.error(lacking)
    result = soak(plan, say=partial(print, flush=True))
    sys.stdout.write(table(result))
    return 1 if result.problems else 0


def lacking_space(plan: Plan, free_bytes: int) -> str | None:
    """Why a soak of this length would fill the disk, and what to do; nothing if it fits."""
    needed_bytes = plan.seconds * plan.rate * BYTES_PER_DELIVERY
    if needed_bytes < free_bytes:
        return None
    return (
        f"it would leave {needed_bytes / 1e9:.0f} GB in {tempfile.gettempdir()}, where {free_bytes / 1e9:.0f} GB are"
        " free: name a larger disk with TMPDIR=, or take a lower RATE or fewer HOURS"
    )


def soak(plan: Plan, say: Callable[[str], None] = print) -> Result:
    """Run one in a home of its own, which is removed unless something is wrong."""
    home = Path(tempfile.mkdtemp(prefix="ct-soak-"))
    with running_sandbox(Sandbox(seed=11)) as sandbox:
        environment = {**sandbox.environment(), "OPERATOR_TOKEN": "soak"}
        with installed(home, environment) as installation:
            result = asyncio.run(Soak(plan, installation, sandbox, say).run())
    if result.problems:
        say(f"the logs, to see why: {home}")
    else:
        shutil.rmtree(home)
    return result


def table(result: Result) -> str:
    """The result for people."""
    lines = [f"{'process':<12}{'starts':>7}{'first':>9}{'last':>9}{'peak':>9}{'MB/hour':>10}{'grown':>9}"]
    for life in result.lives:
        slope = "-" if life.slope is None else f"{life.slope:.1f}"
        grown = "-" if life.growth_mb is None else f"{life.growth_mb:.1f}"
        sizes = "".join(f"{size:>9.0f}" for size in (life.first_mb, life.last_mb, life.peak_mb))
        lines.append(f"{life.name:<12}{life.starts:>7}{sizes}{slope:>10}{grown:>9}")
    median, high, longest = result.latency_seconds
    lines += [
        "(MB, proportional share; slope and growth of its own memory in the second half)",
        f"{result.sent:,} deliveries answered; planted: {result.planted}",
        f"stored to ended: p50 {median:.2f} s, p99 {high:.2f} s, longest {longest:.1f} s",
        f"troubles: {result.troubles}; repeated deliveries: {result.repeated}",
        f"reconciliations: {result.nights[0]} finished, {result.nights[1]} failed and repeated",
        *(f"WRONG: {problem}" for problem in result.problems),
        "NOT AS IT MUST BE" if result.problems else "everything is as planted, and nothing grows",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
