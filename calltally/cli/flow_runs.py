"""What verbs that run a flow here have in common: where Prefect is, and its deployments."""

import gc
import os
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from billing.settings import Settings


def point_at_prefect(settings: "Settings") -> None:
    """What Prefect reads from the environment when it is imported, unless somebody has set it."""
    gc.enable()  # a flow runs for longer than the verb that it is part of usually does
    # The command line itself starts without it.
    from billing.prefect_access import prefect_api_url, prefect_auth_string  # noqa: PLC0415
    from calltally.stack.prefect_server import HEARTBEAT_SECONDS  # noqa: PLC0415

    key = settings.prefect_api_key
    wanted = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command says itself what went wrong
        "PREFECT_API_URL": prefect_api_url(settings),
        "PREFECT_UI_URL": settings.prefect_ui_url,
        "PREFECT_API_AUTH_STRING": prefect_auth_string(settings),
        "PREFECT_API_KEY": key.get_secret_value() if key else None,
    }
    for name, content in wanted.items():
        if content is not None:
            os.environ.setdefault(name, content)


async def installed_deployments() -> dict[str, UUID]:
    """The deployments by name, made what they should be.

    Raises:
        PermanentError: Prefect does not answer, or refuses us; the message says what to do.
    """
    from httpx import HTTPError, HTTPStatusError  # noqa: PLC0415

    from billing.errors import PermanentError  # noqa: PLC0415
    from billing.prefect_access import CREDENTIALS_FIX, REFUSED  # noqa: PLC0415
    from calltally.stack.deployments import install_deployments  # noqa: PLC0415 - Prefect takes seconds to import

    place = os.environ["PREFECT_API_URL"]
    try:
        return await install_deployments()
    except HTTPStatusError as error:
        status = error.response.status_code
        says = f"refuses our credentials ({status})" if status in REFUSED else f"answers {status}"
        fix = CREDENTIALS_FIX if status in REFUSED else "see the log of its server, or run calltally doctor"
        raise PermanentError(f"Prefect at {place} {says}: {fix}") from error
    except (HTTPError, RuntimeError, OSError) as error:
        raise PermanentError(
            f"no Prefect server answers at {place}: start everything with `calltally up`, or set PREFECT_API_URL"
        ) from error
