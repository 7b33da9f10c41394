"""Where Prefect's server is, and how to prove oneself to it, for processes that ask it over plain HTTP."""

import base64
import os

from billing.errors import PermanentError
from billing.settings import Settings

REFUSED = frozenset({401, 403})
"""Statuses that mean: it is there, and does not believe us."""

HIGHEST_PORT = 65535

CREDENTIALS_FIX = (
    "set PREFECT_API_AUTH_STRING to what the server has as PREFECT_SERVER_API_AUTH_STRING, or PREFECT_API_KEY for"
    " Prefect Cloud"
)


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


def prefect_headers(settings: Settings) -> dict[str, str]:
    """As Prefect's own client proves itself, by the same variables."""
    if settings.prefect_api_key is not None:
        return {"Authorization": f"Bearer {settings.prefect_api_key.get_secret_value()}"}
    if settings.prefect_api_auth_string is not None:
        secret = base64.b64encode(settings.prefect_api_auth_string.get_secret_value().encode()).decode()
        return {"Authorization": f"Basic {secret}"}
    return {}
