"""Access to Postgres: one engine per process, and database errors translated once into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

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
    return engine


def _send_arrays_in_binary(connection: psycopg.Connection[Any], _record: object) -> None:
    """Bodies travel as arrays of bytea; escaping them as text would cost more than storing them."""
    connection.adapters.register_dumper(list, ListBinaryDumper)


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
