"""Who runs the embedded PostgreSQL: it refuses root, so root lends it an account that owns nothing else."""

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from calltally.stack.environment import without

ACCOUNT_NAME = "calltally"


class AccountError(Exception):
    """No account can run PostgreSQL here; the message says what to do instead."""


@dataclass(frozen=True)
class ServiceAccount:
    """The user that runs PostgreSQL and owns its files."""

    uid: int
    gid: int

    @classmethod
    def for_directory(cls, data_directory: Path) -> Self:
        """Choose the account for `data_directory`: ourselves, or as root its owner, or a new system user.

        Raises AccountError if the directory belongs to somebody else, or if root can't add a user.
        """
        owner = data_directory.stat() if data_directory.exists() else None
        if os.geteuid() != 0:
            if owner is not None and owner.st_uid != os.geteuid():
                message = (
                    f"{data_directory} belongs to user {owner.st_uid}, not to you ({os.geteuid()}): "
                    "run this as that user, or set CALLTALLY_HOME to a directory of your own"
                )
                raise AccountError(message)
            return cls(os.geteuid(), os.getegid())
        if owner is not None and owner.st_uid != 0:
            return cls(owner.st_uid, owner.st_gid)
        return cls._system_user()

    @classmethod
    def _system_user(cls) -> Self:
        try:
            entry = pwd.getpwnam(ACCOUNT_NAME)
        except KeyError:
            entry = _add_user()
        return cls(entry.pw_uid, entry.pw_gid)

    @property
    def is_current(self) -> bool:
        """Whether this process already runs as the account."""
        return self.uid == os.geteuid()

    def run(self, command: list[str], *, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
        """Run `command` as the account and return its output, both streams together.

        Raises subprocess.TimeoutExpired past `timeout_seconds`, and OSError if it can't be executed.
        """
        return subprocess.run(
            command,
            env=without(os.environ),
            cwd="/",  # the caller's directory may be closed to the account
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            user=None if self.is_current else self.uid,
            group=None if self.is_current else self.gid,
            extra_groups=None if self.is_current else [],
        )

    def give(self, path: Path) -> None:
        """Make the account the owner of `path`."""
        if not self.is_current:
            os.chown(path, self.uid, self.gid)

    def open_way_to(self, path: Path) -> None:
        """Let the account traverse to `path`: execute permission on its parents, and nothing more.

        A folder that root has for itself is opened to the account's group alone, else to everybody.
        """
        if self.is_current:
            return
        for parent in path.resolve().parents:
            status = parent.stat()
            is_open_to_group = status.st_gid == self.gid and status.st_mode & stat.S_IXGRP
            if status.st_mode & stat.S_IXOTH or is_open_to_group or status.st_uid == self.uid:
                continue
            is_private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
            if is_private:
                os.chown(parent, -1, self.gid)
            parent.chmod(stat.S_IMODE(status.st_mode) | (stat.S_IXGRP if is_private else stat.S_IXOTH))


def _add_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    try:
        subprocess.run([*command, ACCOUNT_NAME], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        try:
            return pwd.getpwnam(ACCOUNT_NAME)  # another process was faster
        except KeyError:
            message = (
                f"PostgreSQL refuses to run as root, and adding the user {ACCOUNT_NAME!r} failed ({error}): "
                "run this as an ordinary user, or set DATABASE_URL to an existing server"
            )
            raise AccountError(message) from error
    return pwd.getpwnam(ACCOUNT_NAME)
