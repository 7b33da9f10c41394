"""The receiver: webhooks in, health and the operators' API out. It knows nothing of what events mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from billing import inbox
from billing.database import OPERATORS_ROLE, open_engine
from billing.prefect_probe import PrefectProbe
from billing.settings import Settings
from receiver.health import Health
from receiver.inbox_writer import InboxWriter
from receiver.metrics import ReceiverMetrics
from receiver.openapi import OPENAPI
from receiver.operators import OperatorsApi
from receiver.webhooks import WebhookEndpoint, providers


def create_app(settings: Settings, engine: Engine) -> Starlette:
    """The ASGI application on an open engine, which stays the caller's. Operators ask as a role of their own."""
    operators_engine = open_engine(engine.url, role=OPERATORS_ROLE, pool_size=3)
    prefect = PrefectProbe(settings)
    metrics = ReceiverMetrics(engine, settings, prefect)
    writer = InboxWriter(metrics.counting(partial(inbox.accept, engine)))
    health = Health(engine, settings, prefect)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        writer.start()
        yield
        await writer.drain()
        health.close()
        metrics.close()
        operators_engine.dispose()
        await prefect.close()

    async def get_health(_request: Request) -> JSONResponse:
        healthy, body = await health.report()
        return JSONResponse(body, status_code=200 if healthy else 503)

    async def get_openapi(_request: Request) -> JSONResponse:
        return JSONResponse(OPENAPI)

    webhooks = [
        Route(
            f"/webhooks/{provider.name}",
            metrics.observed(provider.name, WebhookEndpoint(provider, writer)),
            methods=["POST"],
        )
        for provider in providers(settings)
    ]
    operators = OperatorsApi(operators_engine, settings).routes()
    own = [
        Route("/health", get_health),
        Route("/metrics", metrics.endpoint),
        Route("/openapi.json", get_openapi),
    ]
    return Starlette(routes=[*webhooks, *own, *operators], lifespan=lifespan)
