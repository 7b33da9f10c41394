"""As much of a Prefect server as those ask for who wonder whether it is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from calltally.sandbox.serving import running_app


@dataclass
class StandIn:
    """A server at an address."""

    status: int
    """What it answers when asked whether it is ready; `/health` says well as long as the process is there."""
    api_url: str = ""
    asked: int = 0

    async def ready(self, _request: Request) -> JSONResponse:
        """Whether its database answers too."""
        self.asked += 1
        return JSONResponse(self.status == 200, self.status)

    async def health(self, _request: Request) -> JSONResponse:
        """Always well."""
        return JSONResponse(True)

    async def run(self, _request: Request) -> JSONResponse:
        """Any deployment, and a run of it."""
        return JSONResponse({"id": "0b5e5a0e-5a4c-4c43-9d39-0a3b1f0f7c11"})


@contextmanager
def prefect_answering(status: int = 200) -> Iterator[StandIn]:
    """A server that is there until the block ends."""
    server = StandIn(status)
    app = Starlette(
        routes=[
            Route("/api/ready", server.ready),
            Route("/api/health", server.health),
            Route("/api/deployments/name/{flow}/{name}", server.run),
            Route("/api/deployments/{id}/create_flow_run", server.run, methods=["POST"]),
        ]
    )
    with running_app(app) as port:
        server.api_url = f"http://127.0.0.1:{port}/api"
        yield server
