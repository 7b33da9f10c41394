"""Asks the database how things are, for people who wait: on a connection of its own, and never longer than told.

It asks as the receiver, whoever asks.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Engine

from billing.database import RECEIVER_ROLE

log = logging.getLogger("billing.probe")

T = TypeVar("T")
Reader = psycopg.Connection[dict[str, Any]]
"""What a question is asked on: it commits by itself and answers with dictionaries."""

PATIENCE_SECONDS: Final = 0.8
"""Whatever hangs, an answer made from a probe comes within a second."""
STATEMENT_MS: Final = 350
"""A slow statement is ended by the server; two of them fit into the patience."""
CONNECT_SECONDS: Final = 2
"""The least that libpq can count; nobody waits for it longer than the patience."""


class Probe(Generic[T]):
    """One question, asked by one thread at a time: whoever comes meanwhile gets the same answer.

    So a database that takes connections and never answers holds one thread and one connection, however many ask, and
    none of the pool's.
    """

    def __init__(
        self, engine: Engine, question: Callable[[Reader], T], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """`engine` only says where the database is."""
        self._url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._question = question
        self._patience_seconds = patience_seconds
        self._asking: asyncio.Future[T | None] | None = None
        self._connection: Reader | None = None
        self._line: socket.socket | None = None
        self._closed = False

    async def ask(self) -> T | None:
        """The answer, or None if the database failed or took too long."""
        if self._asking is None or self._asking.done():
            loop = asyncio.get_running_loop()
            self._asking = loop.create_future()
            # Not of an executor: those are waited for when the program ends.
            threading.Thread(target=self._run, args=(loop, self._asking), name="probe", daemon=True).start()
        done, _ = await asyncio.wait([self._asking], timeout=self._patience_seconds)
        if not done:
            self._hang_up()
            return None
        return self._asking.result()

    def close(self) -> None:
        """Let go of the connection, at once or as soon as the thread that waits for it notices."""
        self._closed = True
        if self._asking is None or self._asking.done():
            self._drop()
        else:
            self._hang_up()

    def _run(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[T | None]") -> None:
        found: T | None = None
        try:
            found = self._ask()
        except Exception as error:  # noqa: BLE001 - unknown is an answer too
            log.info("probe.failed error=%s", type(error).__name__)
            self._drop()
        if self._closed:
            self._drop()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(answer.set_result, found)

    def _ask(self) -> T:
        kept = self._connection
        if kept is not None:
            try:
                return self._question(kept)
            except psycopg.OperationalError:
                if not kept.broken:
                    raise
                self._drop()  # the database was restarted: ask the new one
        return self._question(self._connect())

    def _connect(self) -> Reader:
        options = f"-c timezone=UTC -c role={RECEIVER_ROLE} -c statement_timeout={STATEMENT_MS}"
        self._connection = psycopg.connect(
            self._url,
            autocommit=True,
            row_factory=dict_row,
            options=options,
            connect_timeout=CONNECT_SECONDS,
            tcp_user_timeout=2000,
            application_name="calltally probe",
        )
        self._line = socket.socket(fileno=os.dup(self._connection.fileno()))
        return self._connection

    def _hang_up(self) -> None:
        """End the thread's wait for an answer: closing the connection itself from here would not be safe."""
        if self._line is not None:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        line, self._line = self._line, None
        if connection is not None:
            connection.close()
        if line is not None:
            line.close()
