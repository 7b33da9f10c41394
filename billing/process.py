"""What a process that does work shares: its name and its connections to the books."""

import os
import socket
from functools import cache

from sqlalchemy import Engine

from billing.database import open_engine
from billing.errors import PermanentError
from billing.settings import get_settings


class NotConfigured(PermanentError):
    """A setting is missing; the message names it."""


@cache
def get_engine() -> Engine:
    """The engine on `DATABASE_URL`, opened once.

    Raises:
        NotConfigured: it is unset; whoever starts processes on the embedded database passes its address on.
    """
    url = get_settings().database_url
    if url is None:
        raise NotConfigured("DATABASE_URL is not set: start everything with `calltally up`, or set it")
    return open_engine(url)


@cache
def process_name() -> str:
    """Host and process id, as events and heartbeats note them."""
    return f"{socket.gethostname()}:{os.getpid()}"
