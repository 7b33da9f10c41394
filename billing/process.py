"""What a process that does work shares: its name, its role in the database and its connections to the books."""

import os
import socket
from functools import cache

from sqlalchemy import Engine

from billing.database import APP_ROLE, open_engine
from billing.errors import PermanentError
from billing.settings import get_settings


class NotConfigured(PermanentError):
    """A setting is missing; the message names it."""


PROCESS_VARIABLE = "CALLTALLY_PROCESS"
"""Says to the runs of flows, which are processes of their own, whose they are."""
PROCESSES = ("receiver", "worker", "nights")
"""Each has the role of its name in the database, and may do there what sql/access.sql says."""


def become(process: str) -> None:
    """Be one of `PROCESSES` from now on, and let those be it that this one starts."""
    os.environ[PROCESS_VARIABLE] = process


def role_of(process: str | None) -> str:
    """The role of a process in the database; of none, as at the command line, that of people.

    Raises:
        NotConfigured: there is no such process.
    """
    if not process:
        return APP_ROLE
    if process not in PROCESSES:
        raise NotConfigured(f"{PROCESS_VARIABLE} must be one of {', '.join(PROCESSES)}, or unset: not {process!r}")
    return f"calltally_{process}"


@cache
def get_engine() -> Engine:
    """The engine on `DATABASE_URL` in the role of this process, opened once.

    Raises:
        NotConfigured: it is unset; whoever starts processes on the embedded database passes its address on.
    """
    url = get_settings().database_url
    if url is None:
        raise NotConfigured("DATABASE_URL is not set: start everything with `calltally up`, or set it")
    return open_engine(url, role=role_of(os.environ.get(PROCESS_VARIABLE)))


@cache
def process_name() -> str:
    """Host and process id, as events and heartbeats note them."""
    return f"{socket.gethostname()}:{os.getpid()}"
