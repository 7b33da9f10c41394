"""The books, wherever they are: the server of `DATABASE_URL`, or the embedded one, started if need be."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from billing.database import open_engine, transaction, value
from billing.migrate import migrate
from billing.settings import get_settings


@contextmanager
def database_url() -> Iterator[str]:
    """The address of the database, which is there and reachable inside the block."""
    settings = get_settings()
    if settings.database_url is not None:
        yield settings.database_url
        return
    from calltally.stack.sharing import (  # noqa: PLC0415 - not needed with a server of one's own
        DATABASE_NAME,
        embedded_postgres,
    )

    with embedded_postgres(settings.calltally_home) as server:
        server.ensure_database(DATABASE_NAME)
        yield server.url(DATABASE_NAME)


@contextmanager
def open_books() -> Iterator[Engine]:
    """An engine on the books; a database without a schema gets it first."""
    with database_url() as url:
        with closing_engine(open_engine(url, role=None, pool_size=2)) as engine, transaction(engine) as connection:
            migrated = value(connection, "SELECT to_regclass('schema_revision') IS NOT NULL")
        if not migrated:
            migrate(url)
        with closing_engine(open_engine(url, pool_size=2)) as engine:
            yield engine


@contextmanager
def closing_engine(engine: Engine) -> Iterator[Engine]:
    """The engine, whose connections are closed at the end, however the block ends."""
    try:
        yield engine
    finally:
        engine.dispose()
