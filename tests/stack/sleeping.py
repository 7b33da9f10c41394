"""A flow that would take long, and a process that runs it as our worker runs webhooks."""

import asyncio
import sys
from uuid import UUID

from prefect import flow

from calltally.stack.warm_worker import run_deployed


@flow(name="sleeping")
async def sleeping(seconds: float = 600, wrong: bool = False) -> None:
    """Sleep, and then fail if something is wrong."""
    await asyncio.sleep(seconds)
    if wrong:
        raise ValueError("a body that nobody may see")


if __name__ == "__main__":
    asyncio.run(run_deployed(sleeping, UUID(sys.argv[1]), {"seconds": float(sys.argv[2])}, "warm"))
