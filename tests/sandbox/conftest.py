"""A served sandbox, and a webhook endpoint that notes what reaches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from calltally.sandbox.calls import Call
from calltally.sandbox.calls import Route as CallRoute
from calltally.sandbox.server import RunningSandbox, sandbox_app
from calltally.sandbox.serving import running_app
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.world import Sandbox

DAY = datetime(2026, 11, 3, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 4, tzinfo=UTC)
NOW = datetime(2026, 11, 4, 3, tzinfo=UTC)
ASSISTANT = CallRoute(assistant_id="a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34", tenant_id="tenant_42")

PlaceCalls = Callable[..., list[Call]]


@dataclass
class Endpoint:
    """A webhook endpoint; `answers` are used up first, then it answers 200."""

    url: str
    answers: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[bytes]:
        """Bodies in the order of arrival."""
        return [body for _, body in self.received]


class Switchboard:
    """One served port whose application can be exchanged, so that tests need not wait for a start."""

    port: int
    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the application of the running test."""
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def sandbox_port() -> Iterator[Switchboard]:
    """The port of all sandboxes."""
    yield from _switchboard()


@pytest.fixture(scope="session")
def endpoint_port() -> Iterator[Switchboard]:
    """The port of all webhook endpoints."""
    yield from _switchboard()


def _switchboard() -> Iterator[Switchboard]:
    switchboard = Switchboard()
    with running_app(switchboard) as switchboard.port:
        yield switchboard


@pytest.fixture
def sandbox(sandbox_port: Switchboard) -> RunningSandbox:
    """A fresh sandbox whose clock stands still."""
    fresh = Sandbox(seed=7, clock=lambda: NOW)
    sandbox_port.app = sandbox_app(fresh)
    return RunningSandbox(fresh, sandbox_port.port)


@pytest.fixture
def vapi(sandbox: RunningSandbox) -> Iterator[httpx.Client]:
    """A client of the sandbox's Vapi with the right key."""
    headers = {"Authorization": f"Bearer {sandbox.vapi.api_key}"}
    with httpx.Client(base_url=sandbox.vapi_base_url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def place_calls(sandbox: RunningSandbox) -> PlaceCalls:
    """Place calls on one day; keyword arguments are fields of Traffic."""
    return placing(sandbox.vapi)


def placing(world: VapiWorld) -> PlaceCalls:
    """Return a function that places calls in this world."""

    def place(count: int, **traffic: object) -> list[Call]:
        chosen: dict[str, object] = {"routes": (ASSISTANT,), "start": DAY, "end": NEXT_DAY, **traffic}
        return world.place_calls(Traffic(count=count, **chosen))  # type: ignore[arg-type]

    return place


@pytest.fixture
def endpoint(endpoint_port: Switchboard) -> Endpoint:
    """A fresh webhook endpoint."""
    noted = Endpoint(f"http://127.0.0.1:{endpoint_port.port}/webhooks")

    async def receive(request: Request) -> Response:
        noted.received.append((dict(request.headers), await request.body()))
        return PlainTextResponse("", noted.answers.pop(0) if noted.answers else 200)

    endpoint_port.app = Starlette(routes=[Route("/webhooks", receive, methods=["POST"])])
    return noted
