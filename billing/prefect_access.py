"""Where Prefect's server is, and how to prove oneself to it, for processes that ask it over plain HTTP."""

import base64
import os
import secrets
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from billing.errors import PermanentError
from billing.settings import Settings

REFUSED = frozenset({401, 403})
"""Statuses that mean: it is there, and does not believe us."""

HIGHEST_PORT = 65535

CREDENTIALS_FIX = (
    "set PREFECT_API_AUTH_STRING to what the server has as PREFECT_SERVER_API_AUTH_STRING (for the server of this"
    " machine `calltally prefect-login` knows it), or PREFECT_API_KEY for Prefect Cloud"
)
LOGIN_FILE: Final = "prefect-login"
"""In CALLTALLY_HOME: `user:password` of the server that is started here."""
USER: Final = "calltally"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def prefect_api_url(settings: Settings) -> str:
    """Prefect's API, or where `calltally up` would start it; without a slash at its end."""
    return (settings.prefect_api_url or f"http://127.0.0.1:{prefect_server_port()}/api").rstrip("/")


def prefect_server_port() -> int:
    """Where Prefect's server of this machine listens, by its own variable.

    Raises:
        PermanentError: that is no port; the message says what to do.
    """
    port = os.environ.get("PREFECT_SERVER_API_PORT") or "4200"
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= HIGHEST_PORT):
        raise PermanentError("PREFECT_SERVER_API_PORT is no port: set it to a number from 1 to 65535, or unset it")
    return int(port)


def prefect_auth_string(settings: Settings) -> str | None:
    """`user:password` for Prefect: what the settings say; else, on this machine, what a server here has kept."""
    if settings.prefect_api_auth_string is not None:
        return settings.prefect_api_auth_string.get_secret_value()
    if settings.prefect_api_key is not None or urlsplit(prefect_api_url(settings)).hostname not in LOOPBACK:
        return None
    return _kept(login_file(settings))


def server_auth_string(settings: Settings) -> str:
    """`user:password` that a server started here asks for: what the settings say, else one that is made and kept."""
    given = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or settings.prefect_api_auth_string
    if given:
        return given if isinstance(given, str) else given.get_secret_value()
    file = login_file(settings)
    return _kept(file) or _keep(file, f"{USER}:{secrets.token_urlsafe(24)}")


def login_file(settings: Settings) -> Path:
    """Where it is kept; only who starts the server may read it."""
    return settings.calltally_home / LOGIN_FILE


def prefect_headers(settings: Settings) -> dict[str, str]:
    """As Prefect's own client proves itself, by the same variables."""
    if settings.prefect_api_key is not None:
        return {"Authorization": f"Bearer {settings.prefect_api_key.get_secret_value()}"}
    return basic_auth(prefect_auth_string(settings))


def basic_auth(auth_string: str | None) -> dict[str, str]:
    """The header that says `user:password`; none for None."""
    if auth_string is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(auth_string.encode()).decode()}"}


def other_version(server: str) -> tuple[str, str] | None:
    """What is wrong and what mends it, if Prefect's server is of another version than the client here; else None."""
    ours = version("prefect")
    if server.split(".")[:2] == ours.split(".")[:2]:
        return None
    series = ".".join(ours.split(".")[:2])
    return f"its server is {server}, the client here {ours}", f"run the server with Prefect {series}.*"


def _kept(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text(encoding="utf-8").strip() or None
    return None


def _keep(file: Path, auth_string: str) -> str:
    """Whole or not at all; of two that start at the same time both keep the first one's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(f"{auth_string}\n")
    try:
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
    return _kept(file) or auth_string
