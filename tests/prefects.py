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


@contextmanager
def prefect_answering(status: int = 200) -> Iterator[StandIn]:
    """A server that is there until the block ends."""
    server = StandIn(status)
    app = Starlette(routes=[Route("/api/ready", server.ready), Route("/api/health", server.health)])
    with running_app(app) as port:
        server.api_url = f"http://127.0.0.1:{port}/api"
        yield server
