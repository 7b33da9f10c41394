"""Where the story plays: the whole stack and the sandbox on free ports, with a home of its own that starts empty."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine

from billing.database import open_engine, rows, transaction
from billing.prefect_access import basic_auth
from billing.prefect_api import start_deployment
from billing.settings import Settings, get_settings
from calltally.sandbox.server import RunningSandbox, running_sandbox
from calltally.sandbox.world import Sandbox
from calltally.stack.up import Stack, running_stack

PATIENCE_SECONDS = 90.0
"""For anything that the story waits for."""


class StoryStuckError(Exception):
    """Something that the story waits for does not happen."""


@dataclass(frozen=True)
class Stage:
    """Everything that the story touches."""

    stack: Stack
    sandbox: RunningSandbox
    engine: Engine
    home: Path

    def ask(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """Figures, read back from the database."""
        with transaction(self.engine) as connection:
            return rows(connection, query, **parameters)

    def figure(self, query: str, **parameters: Any) -> Any:
        """One figure, read back from the database."""
        return next(iter(self.ask(query, **parameters)[0].values()))

    async def until(self, query: str, what: str, **parameters: Any) -> None:
        """Wait until the query answers true.

        Raises:
            StoryStuckError: it does not, for too long.
        """
        async with self._patience(what):
            while not await asyncio.to_thread(self.figure, query, **parameters):  # noqa: ASYNC110 - it is in Postgres
                await asyncio.sleep(0.1)

    async def run_night(self) -> dict[str, Any]:
        """Start the nightly deployment as a person would in Prefect's UI, and wait for its end; the run's row."""
        flow_run = await start_deployment(
            self.stack.prefect_api_url, "reconcile_calls", {}, headers=basic_auth(self.stack.prefect_auth_string)
        )
        query = "SELECT count(*) = 1 FROM reconciliation_runs WHERE flow_run_id = :id AND alert IS NOT NULL"
        await self.until(query, "the night", id=flow_run.id)
        return self.ask("SELECT * FROM reconciliation_runs WHERE flow_run_id = :id", id=flow_run.id)[0]

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield
        except TimeoutError as error:
            seconds = f"{PATIENCE_SECONDS:.0f} s"
            raise StoryStuckError(f"waited {seconds} for {what}; the reason is in {self.home / 'logs'}") from error


@asynccontextmanager
async def open_stage(seed: int) -> AsyncIterator[Stage]:
    """Start everything, and stop it at the end."""
    home = get_settings().calltally_home.absolute() / f"demo-{os.getpid()}"
    with running_sandbox(Sandbox(seed=seed)) as sandbox:
        env = sandbox.environment()
        settings = Settings(
            _env_file=None,
            database_url=None,
            prefect_api_url=None,
            calltally_home=home,
            receiver_port=_free_port(),
            operator_token=SecretStr("demo"),
        )
        try:
            async with running_stack(settings, env=env, quiet=True, prefect_port=_free_port()) as stack:
                engine = open_engine(stack.database_url, pool_size=2)
                yield Stage(stack, sandbox, engine, home)
                engine.dispose()
        except asyncio.CancelledError:
            shutil.rmtree(home)
            raise
        shutil.rmtree(home)  # not reached after an error: then the logs are worth reading


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
