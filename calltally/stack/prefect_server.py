"""A Prefect server on our PostgreSQL: quick to record task runs, silent, and closed to whoever has no password."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
import uvicorn
from psycopg import errors, sql
from sqlalchemy.engine import URL, make_url

from billing.errors import unreachable
from calltally.stack.known_hosts import KnownHosts, origins
from calltally.stack.supervisor import Child

CONNECT_SECONDS: Final = 5
START_TIMEOUT_SECONDS: Final = 180
"""The first start on a slow machine makes 150 tables."""

SERVER_SETTINGS: Final[Mapping[str, str]] = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    # A sweep a minute is half a million runs a year: runs are forgotten after 30 days.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 24 * 3600),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
    # Leases in the server's memory would end with it, and with them, minutes later, the night that holds one.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
}


HEARTBEAT_SECONDS: Final = 30
"""Between two signs of life of a run: the least that Prefect allows. automations.py acts on their absence."""


ADDRESSES: Final = ("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_SERVER_UI_API_URL", "PREFECT_UI_API_URL")
"""Where its pages and its API are opened; from elsewhere no browser is let in."""
CORS: Final = ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS")
"""Prefect reads both names."""


class PrefectDatabaseError(Exception):
    """The Prefect server has no database; the message says how to give it one."""


def client_environment(
    api_url: str, home: Path, ui_url: str | None = None, *, auth_string: str | None = None
) -> dict[str, str]:
    """What every process needs: the server's address, no traces in the user's home, and a heap that stays small.

    `ui_url` is where people open its pages; None: where the API is. `auth_string` is `user:password`.
    """
    return {
        "PREFECT_API_URL": api_url,
        **({"PREFECT_API_AUTH_STRING": auth_string} if auth_string else {}),
        **({"PREFECT_UI_URL": ui_url} if ui_url else {}),
        "PREFECT_HOME": str(home.absolute() / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # What our own code logs inside a run belongs to that run in the UI.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "billing",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # By default glibc keeps a heap per thread, and each keeps what a burst has left: at 200 webhooks a second a
        # worker that uses 76 MB of them had grown to 163 MB after six minutes, with one heap it stays at 99 MB.
        "MALLOC_ARENA_MAX": "1",
    }


def server_child(
    api_url: str, database_url: str, home: Path, ui_url: str | None = None, *, auth_string: str | None = None
) -> Child:
    """The server that answers at `api_url` and keeps its state in `database_url`, a SQLAlchemy URL.

    It asks for `auth_string`, `user:password`; None: for what the environment says, or for nothing.
    """
    address = urlsplit(api_url)
    env = {
        **SERVER_SETTINGS,
        **client_environment(api_url, home, ui_url, auth_string=auth_string),
        **({"PREFECT_SERVER_API_AUTH_STRING": auth_string} if auth_string else {}),
        "PREFECT_API_DATABASE_CONNECTION_URL": database_url,
        "PREFECT_SERVER_API_HOST": address.hostname or "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(address.port or 4200),
        # By default the server writes its pages into its own package, which may be read-only.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home.absolute() / "prefect" / "ui"),
    }
    return Child(
        name="prefect",
        command=[sys.executable, "-m", "calltally.stack.prefect_server"],
        # Settings of the person who runs this win over ours.
        env={name: os.environ.get(name, value) if name in SERVER_SETTINGS else value for name, value in env.items()},
        ready=f"{api_url}/ready",
        ready_timeout_seconds=START_TIMEOUT_SECONDS,
    )


def ensure_prefect_database(database_url: str) -> str:
    """Create `<database>_prefect` beside the database of `database_url`; its URL for the Prefect server.

    Raises PrefectDatabaseError if it doesn't exist and can't be created, DatabaseUnavailable if the server is away.
    """
    libpq_url = make_url(database_url).set(drivername="postgresql")
    try:
        connecting = psycopg.connect(_text(libpq_url), autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.Error as error:
        raise unreachable(error) from error
    name = f"{connecting.info.dbname}_prefect"
    try:
        with connecting as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except errors.DuplicateDatabase:
        pass
    except psycopg.Error as error:
        message = (
            f"Prefect's server needs the database {name!r}, and creating it failed: {str(error).strip()}\n"
            f'Create it (CREATE DATABASE "{name}"), or set PREFECT_API_URL to a Prefect server that runs already.'
        )
        raise PrefectDatabaseError(message) from error
    return _text(_for_asyncpg(libpq_url.set(database=name)))


def _for_asyncpg(url: URL) -> URL:
    """asyncpg calls libpq's `sslmode` `ssl`."""
    mode = url.query.get("sslmode")
    url = url.set(drivername="postgresql+asyncpg").difference_update_query(["sslmode"])
    return url if mode is None else url.update_query_dict({"ssl": mode})


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def main() -> None:
    """Serve until a signal comes; the settings are in the environment."""
    addresses = [os.environ.get(name, "") for name in ADDRESSES]
    if not any(name in os.environ for name in CORS):
        os.environ[CORS[0]] = ",".join(origins(addresses))

    from prefect.server.api import collections  # noqa: PLC0415 - only this process pays for the import
    from prefect.server.api.server import create_app  # noqa: PLC0415
    from prefect.settings import get_current_settings  # noqa: PLC0415

    # The catalogue of worker types would be fetched from GitHub. An address that nothing speaks makes the
    # server use the copy that it brings along.
    collections.KNOWN_VIEWS = dict.fromkeys(collections.KNOWN_VIEWS, "bundled:")
    api = get_current_settings().server.api
    uvicorn.run(
        KnownHosts(create_app(final=True), {urlsplit(address).hostname for address in addresses}),
        host=str(api.host),
        port=api.port,
        timeout_keep_alive=api.keepalive_timeout,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
