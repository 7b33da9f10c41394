"""CALLTALLY_HOME: the folder of the embedded database, of logs and reports."""

import os
from pathlib import Path


class HomeError(Exception):
    """The folder cannot be used; the message says what to do."""


def ensure_home(home: Path) -> None:
    """Make the folder unless it is there.

    Raises HomeError if it is none, or if this user may not write there.
    """
    advice = f"Set CALLTALLY_HOME to a folder of this user's, or let it write there: chown -R {_user()} {home}"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise HomeError(
            f"CALLTALLY_HOME is {home}, and that, or what it would lie in, is no folder. Set it to a folder, or move"
            " what is there away"
        ) from error
    except OSError as error:
        raise HomeError(f"CALLTALLY_HOME ({home}) cannot be made: {error.strerror}. {advice}") from error
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        raise HomeError(f"CALLTALLY_HOME ({home}) is not writable by this user. {advice}")


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())
