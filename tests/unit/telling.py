"""A process that goes wrong in every way, with telemetry on: run by test_telemetry.py, since both are for ever."""

import asyncio
import logging
import os

import httpx
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import StaticPool

from billing.errors import UnreadablePayload
from billing.settings import Settings, get_settings
from billing.telemetry import start_telemetry, traced

BODY = os.environ["TOLD_BODY"].encode()
"""From elsewhere, since the lines of the source are shown around an error."""


NUMBER = os.environ["TOLD_NUMBER"]


def fail(error: Exception) -> None:
    """Somewhere below."""
    raise error


async def app(scope: object, receive: object, send: object) -> None:
    """Fails on whatever it is sent."""
    del scope, receive, send
    raise RuntimeError(f"cannot apply {BODY!r}")


async def ask(settings: Settings) -> None:
    """A webhook that fails, and a request of ours with a secret in its address."""
    transport = httpx.ASGITransport(traced(app, settings), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {os.environ['VAPI_API_KEY']}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
        await client.post(f"/webhooks/vapi?number={NUMBER}", content=BODY, headers=headers)
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"{settings.vapi_base_url}/call?number={NUMBER}", headers=headers)


def store(engine: Engine) -> None:
    """A statement with a body for a parameter."""
    with engine.begin() as connection:
        connection.execute(text("SELECT :body"), {"body": BODY})


def main() -> None:
    """Tell of everything."""
    settings = get_settings()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    start_telemetry(settings, "test", engine)
    ours, theirs = logging.getLogger("billing.receiver"), logging.getLogger("uvicorn.error")
    asyncio.run(ask(settings))
    store(engine)
    try:
        fail(RuntimeError(f"cannot apply {BODY!r}"))
    except RuntimeError:
        theirs.exception("Exception in ASGI application on %s", BODY)
    try:
        fail(UnreadablePayload(f"of {NUMBER}, key {os.environ['VAPI_API_KEY']}"))
    except UnreadablePayload:
        ours.exception("webhook.unreadable event=%d number=%s", 7, NUMBER)
    try:
        engine.connect().execute(text("SELECT nothing(:body)"), {"body": BODY})
    except Exception:  # noqa: BLE001 - whatever it is
        ours.exception("webhook.not_stored")


if __name__ == "__main__":
    main()
