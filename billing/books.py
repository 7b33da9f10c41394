"""The books through one connection and nothing else: for commands that answer at once.

SQLAlchemy brings a pool and takes 0.2 s to import, which is most of what a short command has.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from billing.errors import BillingError, translate_driver_error

APP_ROLE = "calltally_app"
PARAMETER = re.compile(r"(?<![:\w]):(\w+)(?!:)")
DRIVER = re.compile(r"^postgres(ql)?(\+\w+)?://")
"""SQLAlchemy's way of naming a driver, which libpq does not know."""
CONNECT_SECONDS = 5


class Books:
    """One session; statements have `:name` parameters, as everywhere here. Errors are ours (billing/errors.py)."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self._connection = connection

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        statement = PARAMETER.sub(r"%(\1)s", query.replace("%", "%%"))
        cursor = self._connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.rows(query, **parameters)
        return next(iter(found[0].values())) if found else None

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """A part of the transaction whose statements may take so long each; an error spoils this part alone.

        Raises:
            BillingError: what a database error means to us.
        """
        try:
            with self._connection.transaction():
                self.value("SELECT set_config('statement_timeout', :ms, true)", ms=f"{seconds * 1000:.0f}ms")
                yield
        except psycopg.Error as error:
            raise translate_driver_error(error) from error


@contextmanager
def open_books(database_url: str, *, connect_seconds: int = CONNECT_SECONDS) -> Iterator[Books]:
    """A session on `postgresql://…` as the application, in UTC: one transaction, committed at the end of the block.

    Raises:
        NoSchema: nobody has migrated this database yet.
        BillingError: what a database error means to us.
    """
    try:
        with psycopg.connect(
            DRIVER.sub("postgresql://", database_url),
            row_factory=dict_row,
            connect_timeout=connect_seconds,
            options="-c timezone=UTC",
            prepare_threshold=None,
        ) as connection:
            books = Books(connection)
            if not books.value("SELECT to_regclass('schema_revision') IS NOT NULL"):
                raise NoSchema("the database has no schema: run calltally migrate")
            connection.execute(f"SET ROLE {APP_ROLE}".encode())
            yield books
    except psycopg.Error as error:
        raise translate_driver_error(error) from error


class NoSchema(BillingError):
    """The database is empty."""
