"""Reconciliations and looks of the monitor during a soak, started as a person would in Prefect's UI."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from billing.errors import BillingError
from billing.prefect_api import start_deployment
from calltally.sandbox.vapi import VapiWorld
from tests.scenarios.installation import Installation

from .traffic import provider_time

MARGIN = timedelta(seconds=10)
KEPT = timedelta(minutes=5)
"""How long the provider keeps calls after they are reconciled; a day's calls would not fit into the sandbox."""


class Nights:
    """Reconciles window after window; one that failed is part of the next one."""

    def __init__(self, installation: Installation, vapi: VapiWorld, start: datetime) -> None:
        self.reconciled_until = start
        self.failed = 0
        self.finished = 0
        self._installation = installation
        self._vapi = vapi

    async def reconcile(self, until: datetime | None = None, patience_seconds: float = 300.0) -> bool:
        """Everything since the last one; whether it came to its end."""
        window = (self.reconciled_until, until or provider_time() - MARGIN)
        parameters = {"window_from": window[0].isoformat(), "window_to": window[1].isoformat(), "look_back_hours": 0}
        run = await self._run("reconcile_calls", parameters, patience_seconds)
        row = await self._ask("SELECT state FROM reconciliation_runs WHERE flow_run_id = :id", id=run) if run else []
        if not row or row[0]["state"] != "completed":
            self.failed += 1
            return False
        self.finished += 1
        self.reconciled_until = window[1]
        await asyncio.to_thread(self._vapi.expire_calls, before=window[1] - KEPT)
        return True

    async def monitor(self) -> bool:
        """One look at every rule; whether it came to its end."""
        return await self._run("monitor_billing", {}, 120.0) is not None

    async def _run(self, deployment: str, parameters: dict[str, Any], patience_seconds: float) -> UUID | None:
        """Start it and wait for its end; its id if it completed."""
        try:
            run = await start_deployment(
                self._installation.prefect_api_url,
                deployment,
                parameters,
                headers=self._installation.prefect_headers,
            )
        except BillingError:
            return None
        async with httpx.AsyncClient(
            trust_env=False, timeout=20, headers=self._installation.prefect_headers
        ) as client:
            url = f"{self._installation.prefect_api_url}/flow_runs/{run.id}"
            for _ in range(int(patience_seconds)):
                await asyncio.sleep(1)
                try:
                    state = (await client.get(url)).json()["state_type"]
                except (httpx.HTTPError, ValueError, KeyError):
                    continue
                if state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
                    return run.id if state == "COMPLETED" else None
        return None

    async def _ask(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        try:
            return await asyncio.to_thread(self._installation.ask, query, **parameters)
        except BillingError:
            return []
