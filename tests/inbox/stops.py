"""Stops the work on the inbox at one of its moments, counted over all its statements and commits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

Stop = Callable[[Connection], None]


class ProcessDied(BaseException):
    """Stands for the end of the process: nobody catches it, and its connection is closed."""


def die(_connection: Connection) -> None:
    """The process ends here."""
    raise ProcessDied


def kill_backend(connection: Connection) -> None:
    """The server's side of the connection is ended by somebody else; the process goes on until it notices."""
    url = connection.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    session = connection.connection.dbapi_connection
    assert session is not None
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [session.info.backend_pid])


@dataclass
class Moments:
    """Before and after each statement and each commit; at the one of this number comes the stop."""

    number: int
    stop: Stop
    seen: list[str] = field(default_factory=list)

    @property
    def came(self) -> bool:
        """Whether there was such a moment."""
        return len(self.seen) > self.number

    def before_statement(self, connection: Connection, _cursor: Any, statement: str, *_rest: object) -> None:
        """A statement is about to be sent."""
        self._pass(connection, f"before {statement}")

    def after_statement(self, connection: Connection, _cursor: Any, statement: str, *_rest: object) -> None:
        """A statement was answered."""
        self._pass(connection, f"after {statement}")

    def commit(self, connection: Connection) -> None:
        """A transaction is about to be committed; if the stop comes after that, it is committed here."""
        self._pass(connection, "before commit")
        if len(self.seen) == self.number:
            session = connection.connection.dbapi_connection
            assert session is not None
            session.commit()
        self._pass(connection, "after commit")

    def _pass(self, connection: Connection, moment: str) -> None:
        self.seen.append(moment)
        if len(self.seen) == self.number + 1:
            self.stop(connection)


@contextmanager
def stopping(engine: Engine, number: int, stop: Stop) -> Iterator[Moments]:
    """Stop what is done on this engine meanwhile at its moment of this number."""
    moments = Moments(number, stop)
    listeners: dict[str, Callable[..., None]] = {
        "before_cursor_execute": moments.before_statement,
        "after_cursor_execute": moments.after_statement,
        "commit": moments.commit,
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield moments
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)
