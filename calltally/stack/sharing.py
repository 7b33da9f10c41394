"""Sharing the embedded PostgreSQL between processes: the first one starts it, the last one stops it."""

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from calltally.stack.home import ensure_home
from calltally.stack.postgres import EmbeddedPostgres, PostgresError
from calltally.stack.service_account import AccountError

log = logging.getLogger(__name__)

DATABASE_NAME: Final = "calltally"
"""The database of the books in the embedded cluster."""


@contextmanager
def embedded_postgres(home: Path, *, options: Mapping[str, str] = MappingProxyType({})) -> Iterator[EmbeddedPostgres]:
    """Use the cluster in `home`, together with other processes; `options` count for whoever starts it.

    Two locks: starting and stopping happen under the gate, one at a time; a shared lock marks each user.
    The kernel releases both when a process dies, however it dies, so a server that a killed process left
    behind is simply reused, and stopped by whoever leaves last.

    Raises HomeError, PostgresError or AccountError if the server can't be started.
    """
    ensure_home(home)
    server = EmbeddedPostgres(home / "postgres", options=options)
    gate = home / "postgres.gate"
    with _lock_file(home / "postgres.lock") as usage:
        with _lock_file(gate, fcntl.LOCK_EX):
            server.start()
            fcntl.flock(usage, fcntl.LOCK_SH)
        try:
            yield server
        finally:
            try:
                with _lock_file(gate, fcntl.LOCK_EX):
                    if _is_last(usage):
                        server.stop()
            except (PostgresError, AccountError, OSError, subprocess.SubprocessError) as error:
                # What happened before matters more, and the server's log survives whatever it does now.
                log.warning("PostgreSQL in %s was left running; the next one who leaves stops it: %s", home, error)


def revive(server: EmbeddedPostgres) -> None:
    """Start a server that died while it was used; whoever else uses it may do so at the same time.

    Raises PostgresError if it doesn't start.
    """
    with _lock_file(server.data_directory.with_name("postgres.gate"), fcntl.LOCK_EX):
        server.start()


def stop_unused(home: Path) -> None:
    """Stop the cluster in `home` if nobody uses it any more: what a killed user could not do."""
    with _lock_file(home / "postgres.lock") as usage, _lock_file(home / "postgres.gate", fcntl.LOCK_EX):
        if _is_last(usage):
            EmbeddedPostgres(home / "postgres").stop()


@contextmanager
def _lock_file(path: Path, mode: int | None = None) -> Iterator[int]:
    """Open `path` for locking and wait for the lock `mode`, if any; closing lets go of it."""
    # Read-only suffices for flock.
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        if os.geteuid() == 0:  # which may share the home of its user
            os.fchown(descriptor, path.parent.stat().st_uid, -1)
        if mode is not None:
            fcntl.flock(descriptor, mode)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_last(usage: int) -> bool:
    try:
        fcntl.flock(usage, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    stop_unused(Path(sys.argv[1]))
