"""The sandbox in a process of its own: full calls on one day, slim ones on the next, all encoded beforehand."""

import sys
from datetime import UTC, datetime, timedelta

import uvicorn

from calltally.sandbox.calls import Route
from calltally.sandbox.server import sandbox_app
from calltally.sandbox.serving import server_config
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.world import Sandbox

FULL_DAY = datetime(2026, 11, 3, tzinfo=UTC)
SLIM_DAY = FULL_DAY + timedelta(days=1)
DAY = timedelta(days=1)
FULL_CALLS = 6_000
SLIM_CALLS = 60_000
ASSISTANTS = 100


def main() -> None:
    """Serve on the port given."""
    routes = tuple(Route(assistant_id=f"a3d6c1f2-9b44-4e0b-8f52-{number:012d}") for number in range(ASSISTANTS))
    world = VapiWorld()
    world.place_calls(Traffic(FULL_CALLS, routes, FULL_DAY, FULL_DAY + DAY, detail="full"))
    world.place_calls(Traffic(SLIM_CALLS, routes, SLIM_DAY, SLIM_DAY + DAY, detail="slim"))
    world.encode_all()
    config = server_config(sandbox_app(Sandbox(vapi=world)))
    config.port = int(sys.argv[1])
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
