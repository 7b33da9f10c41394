"""A sandbox that is served once and exchanged for each test, so that tests need not wait for a start."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from calltally.sandbox.server import RunningSandbox, sandbox_app
from calltally.sandbox.serving import running_app
from calltally.sandbox.world import Sandbox


class Switchboard:
    """One served port whose application can be exchanged."""

    port: int
    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the sandbox of the running test."""
        await self.app(scope, receive, send)

    def show(self, sandbox: Sandbox) -> RunningSandbox:
        """Serve this sandbox from now on."""
        self.app = sandbox_app(sandbox)
        return RunningSandbox(sandbox, self.port)


@contextmanager
def running_switchboard() -> Iterator[Switchboard]:
    """Serve until the block ends."""
    switchboard = Switchboard()
    with running_app(switchboard) as switchboard.port:
        yield switchboard
