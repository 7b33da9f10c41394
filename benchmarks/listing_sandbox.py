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
ASSISTANTS = 100


def main() -> None:
    """Serve so many full and slim calls on the port given."""
    port, full_calls, slim_calls = map(int, sys.argv[1:])
    routes = tuple(Route(assistant_id=f"bench-{number}") for number in range(ASSISTANTS))
    world = VapiWorld()
    world.place_calls(Traffic(full_calls, routes, FULL_DAY, FULL_DAY + DAY, detail="full"))
    slim = Traffic(slim_calls, routes, SLIM_DAY, SLIM_DAY + DAY, never_connected_share=0.0, detail="slim")
    world.place_calls(slim)
    world.encode_all()
    config = server_config(sandbox_app(Sandbox(vapi=world)))
    config.port = port
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
