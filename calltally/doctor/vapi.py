"""Vapi's side: is the key accepted, do reports come here, and does somebody pay for each call?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from billing.settings import Settings
from calltally.doctor.database import clock_skew
from calltally.doctor.findings import Finding
from calltally.doctor.vapi_routes import AREA, Routed, Thing, check_routes
from calltally.doctor.vapi_servers import check_servers

PAGE = 100
"""Vapi has timed out on longer lists of assistants."""
SHOWN = 20
"""Findings of one kind; of a thousand assistants most have the same trouble."""


def check_vapi(settings: Settings, routed: Routed | None) -> list[Finding]:
    """Ask Vapi's API; without `routed` nothing is said of who pays."""
    if settings.vapi_api_key is None:
        return [AREA.warning("not looked at: VAPI_API_KEY is not set", "set it, and run calltally doctor again")]
    headers = {"Authorization": f"Bearer {settings.vapi_api_key.get_secret_value()}"}
    try:
        with httpx.Client(base_url=settings.vapi_base_url, headers=headers, timeout=20) as client:
            assistants, answer = _list(client, "/assistant")
            squads, _ = _list(client, "/squad")
            numbers, _ = _list(client, "/phone-number")
    except httpx.HTTPStatusError as error:
        return [_refused(error, settings.vapi_base_url)]
    except (httpx.HTTPError, ValueError) as error:
        fix = "check VAPI_BASE_URL (https://api.vapi.ai, or https://api.eu.vapi.ai) and status.vapi.ai"
        return [AREA.problem(f"{settings.vapi_base_url} does not answer as Vapi does ({type(error).__name__})", fix)]
    return [
        AREA.ok(
            f"the key is accepted: {len(assistants)} assistant(s), {len(squads)} squad(s), {len(numbers)} phone"
            " number(s)"
        ),
        *_clock(answer),
        *_limited(check_servers(settings, assistants, squads, numbers)),
        *_limited(check_routes(assistants, squads, numbers, routed) if routed is not None else iter(())),
    ]


def _list(client: httpx.Client, path: str) -> tuple[list[Thing], httpx.Response]:
    """All of them, newest first, a page at a time: there is no cursor but the time of creation."""
    found: dict[str, Thing] = {}
    before: str | None = None
    while True:
        parameters: dict[str, str | int] = {"limit": PAGE, **({"createdAtLe": before} if before else {})}
        answer = client.get(path, params=parameters).raise_for_status()
        page = answer.json()
        fresh = {thing["id"]: thing for thing in page if thing["id"] not in found}
        found |= fresh
        if len(page) < PAGE or not fresh:
            return list(found.values()), answer
        before = min(thing["createdAt"] for thing in page)


def _refused(error: httpx.HTTPStatusError, base_url: str) -> Finding:
    if error.response.status_code in {401, 403}:
        return AREA.problem(
            "Vapi refuses VAPI_API_KEY: it is wrong, of another region, or the public key",
            f"set the private key for {base_url}: Vapi dashboard > Organization Settings > API Keys",
        )
    fix = "try again in a minute; see status.vapi.ai"
    return AREA.problem(f"{error.request.url.path} answers {error.response.status_code}", fix)


def _clock(answer: httpx.Response) -> Iterator[Finding]:
    """By the header Date, which has whole seconds."""
    if date := answer.headers.get("date"):
        ahead = abs((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
        yield from clock_skew(AREA, "Vapi's clock", max(0.0, ahead - 1 - answer.elapsed.total_seconds()))


def _limited(findings: Iterator[Finding]) -> Iterator[Finding]:
    """No more than a person reads; what is well always."""
    shown = 0
    for finding in findings:
        shown += finding.fix is not None
        if finding.fix is None or shown <= SHOWN:
            yield finding
    if shown > SHOWN:
        yield AREA.warning(
            f"{shown - SHOWN} more have such troubles", "mend these first, then run calltally doctor again"
        )
