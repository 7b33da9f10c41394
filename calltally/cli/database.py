"""The books, wherever they are: the server of `DATABASE_URL`, or the embedded one, started if need be."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each verb pays for what it uses; these take longer to import than most verbs take
    from sqlalchemy import Engine

    from billing.books import Books


@contextmanager
def database_url() -> Iterator[str]:
    """The address of the database, which is there and reachable inside the block."""
    from billing.settings import get_settings  # noqa: PLC0415

    settings = get_settings()
    if settings.database_url is not None:
        yield settings.database_url
        return
    from calltally.stack.sharing import (  # noqa: PLC0415 - not needed with a server of one's own
        DATABASE_NAME,
        embedded_postgres,
    )

    _announce(settings.calltally_home)
    with embedded_postgres(settings.calltally_home) as server:
        server.ensure_database(DATABASE_NAME)
        yield server.url(DATABASE_NAME)


@contextmanager
def quick_books() -> Iterator["Books"]:
    """One transaction on the books, without SQLAlchemy; a database without a schema gets it first."""
    with database_url() as url, migrated_books(url) as books:
        yield books


@contextmanager
def migrated_books(url: str, *, connect_seconds: int = 5) -> Iterator["Books"]:
    """The same for an address."""
    from billing.books import NoSchema, open_books  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            books = stack.enter_context(open_books(url, connect_seconds=connect_seconds))
        except NoSchema:
            _migrate(url)
            books = stack.enter_context(open_books(url, connect_seconds=connect_seconds))
        yield books


@contextmanager
def open_books() -> Iterator["Engine"]:
    """An engine on the books, for what is shared with the flows; a database without a schema gets it first."""
    from billing.database import open_engine, transaction, value  # noqa: PLC0415

    with database_url() as url:
        with closing_engine(open_engine(url, role=None, pool_size=2)) as engine, transaction(engine) as connection:
            migrated = value(connection, "SELECT to_regclass('schema_revision') IS NOT NULL")
        if not migrated:
            _migrate(url)
        with closing_engine(open_engine(url, pool_size=2)) as engine:
            yield engine


@contextmanager
def closing_engine(engine: "Engine") -> Iterator["Engine"]:
    """The engine, whose connections are closed at the end, however the block ends."""
    try:
        yield engine
    finally:
        engine.dispose()


def _migrate(url: str) -> None:
    from billing.migrate import migrate  # noqa: PLC0415 - Alembic, for an empty database only

    migrate(url)


def _announce(home: Path) -> None:
    """Starting takes seconds; whoever waits should know what for."""
    from calltally.stack.postgres import EmbeddedPostgres  # noqa: PLC0415

    if not EmbeddedPostgres(home / "postgres").is_running():
        sys.stderr.write(f"Starting the embedded database in {home} (with `calltally up` it is there already) …\n")
        sys.stderr.flush()
