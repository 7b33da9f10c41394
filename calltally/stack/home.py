"""CALLTALLY_HOME: the folder of the embedded database, of logs and reports; nobody else's business."""

import os
import stat
from contextlib import suppress
from pathlib import Path

LENT = stat.S_IXGRP
"""What root gives the account that runs PostgreSQL, and nobody else: to pass through."""


class HomeError(Exception):
    """The folder cannot be used; the message says what to do."""


def ensure_home(home: Path) -> None:
    """Make the folder unless it is there, and close it and all in it to other users, whoever left it open.

    Raises HomeError if it is none, or if this user may not write there.
    """
    advice = f"Set CALLTALLY_HOME to a folder of this user's, or let it write there: chown -R {_user()} {home}"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise HomeError(
            f"CALLTALLY_HOME is {home}, and that, or what it would lie in, is no folder. Set it to a folder, or move"
            " what is there away"
        ) from error
    except OSError as error:
        raise HomeError(f"CALLTALLY_HOME ({home}) cannot be made: {error.strerror}. {advice}") from error
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        raise HomeError(f"CALLTALLY_HOME ({home}) is not writable by this user. {advice}")
    _close(home, but=LENT if home.stat().st_gid != os.getegid() else 0)
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            _close(Path(folder) / name)
        folders[:] = [name for name in folders if not _is_cluster(Path(folder) / name)]


def _close(path: Path, but: int = 0) -> None:
    """Take all rights from others, `but` these; what is not ours to change, or gone, is left."""
    with suppress(FileNotFoundError, PermissionError):
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077 & ~but:
            path.chmod(stat.S_IMODE(status.st_mode) & (0o700 | but))


def _is_cluster(path: Path) -> bool:
    """Whether it is PostgreSQL's, which sees to its thousands of files itself."""
    return (path / "PG_VERSION").exists()


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())
