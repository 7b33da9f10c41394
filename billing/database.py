"""Access to Postgres: one engine per process, and database errors translated once into ours."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from billing.errors import DatabaseUnavailable, translate_database_error

APP_ROLE = "calltally_app"
"""People at the command line."""
RECEIVER_ROLE = "calltally_receiver"
OPERATORS_ROLE = "calltally_operators"
"""What the operators' HTTP API asks, within the receiver."""
READERS = ("calltally_analyst", "calltally_tenant")

PROGRAM_TIMEOUTS = {"lock_timeout": "2min", "statement_timeout": "1h", "idle_in_transaction_session_timeout": "10min"}
"""Of the application's sessions, so that whatever hangs lets go in the end. Locks are held for seconds: who waits for
minutes waits for something that hangs, and does better by trying again. Statements of a night over millions of calls
take minutes. Whoever computes between two statements of a transaction takes seconds; a process that is frozen there
would hold its locks for ever. Migrations, which have the owner's role, wait for as long as they have to.
"""
READER_TIMEOUTS = {"lock_timeout": "10s", "statement_timeout": "5min", "idle_in_transaction_session_timeout": "1min"}
"""Of analysts and tenants, who ask and look: a question that they forgot must not hold up a migration or the cleaning
of tables. The logins have the same (sql/grants.sql)."""

REST_SECONDS = 1.0
"""A connection that was not used for so long is asked whether it is still there."""


def open_engine(database_url: str | URL, *, role: str | None = APP_ROLE, pool_size: int = 10) -> Engine:
    """An engine on `postgresql://…` whose sessions act as `role` (None: as the user of the URL), in UTC."""
    timeouts = {} if role is None else READER_TIMEOUTS if role in READERS else PROGRAM_TIMEOUTS
    settings = {"timezone": "UTC", **({"role": role} if role else {}), **timeouts}
    options = " ".join(f"-c {name}={setting}" for name, setting in settings.items())
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(
        url,
        connect_args={"options": options, "connect_timeout": 5, "tcp_user_timeout": 15_000},
        pool_size=pool_size,
        pool_timeout=10,
        hide_parameters=True,  # bodies are parameters, and errors are logged
    )
    event.listen(engine, "connect", _send_arrays_in_binary)
    event.listen(engine, "checkin", _note_rest)
    event.listen(engine, "checkout", _ask_if_rested)
    return engine


def _send_arrays_in_binary(connection: psycopg.Connection[Any], _record: object) -> None:
    """Bodies travel as arrays of bytea; escaping them as text would cost more than storing them."""
    connection.adapters.register_dumper(list, ListBinaryDumper)


def _note_rest(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["rests_since"] = time.monotonic()


def _ask_if_rested(connection: psycopg.Connection[Any], record: ConnectionPoolEntry, _proxy: object) -> None:
    """Ask before use, so that a server that was away and is back costs nobody an error; hot paths never rest so long.

    Raises:
        DisconnectionError: the pool takes another connection then.
    """
    if time.monotonic() - record.info.get("rests_since", math.inf) < REST_SECONDS:
        return
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back by any error.

    Raises:
        BillingError: what a database error means to us, with the original as its cause.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise translate_database_error(error) from error
    except PoolTimeoutError as error:
        raise DatabaseUnavailable("every connection is busy") from error


def rows(connection: Connection, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a query with `:name` parameters."""
    return [dict(row) for row in connection.execute(text(query), parameters).mappings()]


def value(connection: Connection, query: str, **parameters: Any) -> Any:
    """The first column of the first row, or None."""
    return connection.execute(text(query), parameters).scalar()


def answers_to(connection: Connection, query: str, facts: Sequence[Any]) -> list[dict[str, Any]]:
    """What a set-based function of `sql/` answers; it takes its `:facts` as one JSON array. To none, nothing."""
    return rows(connection, query, facts=msgspec.json.encode(facts).decode()) if facts else []
