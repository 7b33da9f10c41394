"""Asks Prefect whether it is there, for all who wonder in one process, and never longer than told."""

import asyncio
import time

import httpx

from billing.prefect_access import CREDENTIALS_FIX, REFUSED, prefect_api_url, prefect_headers
from billing.probe import PATIENCE_SECONDS
from billing.settings import Settings

NO_ADDRESS = "PREFECT_API_URL is not set"
NO_ANSWER = "it does not answer in time"


class PrefectProbe:
    """One question at a time: whoever comes meanwhile gets the same answer."""

    def __init__(self, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds
        self._client = httpx.AsyncClient(headers=prefect_headers(settings), timeout=patience_seconds)
        self._asking: asyncio.Task[str | None] | None = None
        self._asked_at = float("-inf")

    async def trouble(self, *, fresh_seconds: float = 0) -> str | None:
        """Why it can run nothing, without any address or secret; None if it is ready.

        Whoever is content with an answer to a question of the last `fresh_seconds` costs Prefect nothing then.
        """
        old = time.monotonic() - self._asked_at >= fresh_seconds
        if self._asking is None or (self._asking.done() and old):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait([self._asking], timeout=self._patience_seconds)
        return self._asking.result() if self._asking.done() else NO_ANSWER

    async def close(self) -> None:
        """Let go of the connection."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._client.aclose()

    async def _ask(self) -> str | None:
        """Whether it is ready, which asks its database too; its `/health` says only that the process is there."""
        if self._settings.prefect_api_url is None:
            return NO_ADDRESS
        try:
            async with asyncio.timeout(self._patience_seconds):
                answer = await self._client.get(f"{prefect_api_url(self._settings)}/ready")
        except (TimeoutError, httpx.TimeoutException):
            return NO_ANSWER
        except Exception as error:  # noqa: BLE001 - every failure to answer means the same
            return f"it cannot be reached ({type(error).__name__})"
        if answer.status_code in REFUSED:
            return f"it refuses our credentials ({answer.status_code}): {CREDENTIALS_FIX}"
        return None if answer.status_code == httpx.codes.OK else f"it answers {answer.status_code}"
