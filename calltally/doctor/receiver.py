"""The receiver as the providers see it: through PUBLIC_URL."""

import httpx

from billing.settings import Settings
from calltally.doctor.findings import Area, Finding
from calltally.probes import NoAnswer, not_up

AREA = Area("receiver")


def check_receiver(settings: Settings) -> list[Finding]:
    """Whether the receiver answers at its public address, and is well."""
    if settings.public_url is None:
        return []
    address = f"{settings.public_url.rstrip('/')}/health"
    try:
        bad = not_up(httpx.get(address, timeout=10).json())
    except (httpx.HTTPError, NoAnswer, ValueError) as error:
        return [
            AREA.problem(
                f"no receiver answers at {address} ({type(error).__name__})",
                "run calltally receiver (or up), and lead PUBLIC_URL there; some networks cannot reach their own"
                " public address from inside: then look from outside",
            )
        ]
    if bad:
        return [AREA.problem(f"the receiver at {address} is unwell: {bad}", "calltally status says what to do")]
    return [AREA.ok(f"the receiver answers at {address}, and is well")]
