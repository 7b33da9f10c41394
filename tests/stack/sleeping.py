"""A flow that would take long, and a process that runs it as our worker runs webhooks."""

import asyncio
import os
import sys
from uuid import UUID

from prefect import flow
from prefect.concurrency import _leases

from calltally.stack.warm_worker import run_deployed

# Prefect renews a lease of 300 s after three quarters of them: a test has no such patience.
if "RENEWED_AFTER" in os.environ:
    setattr(_leases, "_RENEWAL_FRACTION", float(os.environ["RENEWED_AFTER"]))  # noqa: B010 - it is private


@flow(name="sleeping")
async def sleeping(seconds: float = 600, wrong: bool = False) -> None:
    """Sleep, and then fail if something is wrong."""
    await asyncio.sleep(seconds)
    if wrong:
        raise ValueError("a body that nobody may see")


if __name__ == "__main__":
    asyncio.run(run_deployed(sleeping, UUID(sys.argv[1]), {"seconds": float(sys.argv[2])}, "warm"))
