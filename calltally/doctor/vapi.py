"""Vapi's side: do assistants and phone numbers send their reports here, with retries and a credential?

One server gets the reports of a call: the assistant's, else the phone number's, else the organization's, which only
the dashboard shows (docs.vapi.ai/server-url/setting-server-urls). Without `backoffPlan` Vapi tries once.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

import httpx

from billing.settings import Settings
from calltally.doctor.database import clock_skew
from calltally.doctor.findings import Finding
from calltally.doctor.vapi_routes import AREA, Routed, Thing, check_routes, name_of

REPORT = "end-of-call-report"
PAGE = 100
"""Vapi has timed out on longer lists of assistants."""
BACKOFF = {"type": "exponential", "maxRetries": 10, "baseDelaySeconds": 5}
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
        *_limited(_servers(settings, assistants, numbers)),
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


def _servers(settings: Settings, assistants: list[Thing], numbers: list[Thing]) -> Iterator[Finding]:
    """One finding for each assistant and number that needs something, one for all that are well."""
    wanted = f"{settings.public_url.rstrip('/')}/webhooks/vapi" if settings.public_url else None
    well = 0
    for kind, things in (("assistant", assistants), ("phone-number", numbers)):
        for thing in things:
            server = _server(thing)
            if kind == "phone-number" and not server.get("url"):
                continue  # its assistant's server counts, or the organization's
            if not server.get("url"):
                yield _inherits(settings, thing, wanted)
            elif troubles := [*_server_troubles(server, wanted), *_message_troubles(kind, thing)]:
                yield _mend(settings, kind, thing, server, troubles, wanted)
            else:
                well += 1
    if well:
        place = wanted or "their server (PUBLIC_URL is not set, so it was not compared)"
        yield AREA.ok(f"{well} assistant(s) and number(s) report to {place}, with retries and a credential")


def _server(thing: Thing) -> Thing:
    """Its `server`, or the older `serverUrl` in the same shape."""
    server = dict(thing.get("server") or {})
    if not server.get("url") and thing.get("serverUrl"):
        server |= {"url": thing["serverUrl"], "secret": thing.get("serverUrlSecret")}
    return server


def _server_troubles(server: Thing, wanted: str | None) -> Iterator[str]:
    if wanted and server["url"].rstrip("/") != wanted:
        yield f"it reports to {_without_secrets(server['url'])}, not to {wanted}"
    if not (server.get("backoffPlan") or {}).get("maxRetries"):
        yield "it has no backoffPlan, so a report that fails once is lost until the night"
    has_header = any(name.lower() in {"authorization", "x-vapi-secret"} for name in server.get("headers") or {})
    if not (server.get("credentialId") or server.get("secret") or has_header):
        yield "it has no credential, so its reports are refused with 401"


def _message_troubles(kind: str, thing: Thing) -> Iterator[str]:
    """Absent means the default, which has the report."""
    messages = thing.get("serverMessages")
    if kind == "assistant" and messages is not None and REPORT not in messages:
        yield f"{REPORT} is not among its serverMessages, so it never reports"


def _inherits(settings: Settings, thing: Thing, wanted: str | None) -> Finding:
    told = [*_message_troubles("assistant", thing)]
    server = {"url": wanted or "https://YOUR-RECEIVER/webhooks/vapi", "backoffPlan": BACKOFF}
    what = f"assistant {name_of(thing)} has no server of its own: the phone number's or the organization's counts"
    command = _patch_command(settings, "assistant", thing, {"server": server, **_messages(thing)})
    fix = f"look at Vapi dashboard > Organization Settings > Server URL, or give it one: {command}"
    speak = AREA.problem if told else AREA.warning
    return speak("; ".join([what, *told]), fix, id=thing["id"])


def _mend(
    settings: Settings, kind: str, thing: Thing, server: Thing, troubles: list[str], wanted: str | None
) -> Finding:
    """The patch repeats what stays, since `server` is one value; its secrets are left out of it."""
    kept = {name: server[name] for name in ("timeoutSeconds", "credentialId") if server.get(name)}
    patched = {
        "url": wanted or _without_secrets(server["url"]),
        **kept,
        "backoffPlan": server.get("backoffPlan") or BACKOFF,
    }
    if "credentialId" not in kept:
        patched["credentialId"] = "ID-OF-YOUR-CREDENTIAL"
    patch = {"server": patched, **(_messages(thing) if kind == "assistant" else {})}
    what = f"{kind.replace('-', ' ')} {name_of(thing)}: {'; '.join(troubles)}"
    fix = _patch_command(settings, kind, thing, patch)
    if server.get("headers") or server.get("secret"):
        fix += " (add its headers and secret again: they are not shown here)"
    return AREA.problem(what, fix, id=thing["id"], patch=patch)


def _without_secrets(url: str) -> str:
    """Some put a token into the address."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _messages(thing: Thing) -> Thing:
    messages = thing.get("serverMessages")
    return {} if messages is None or REPORT in messages else {"serverMessages": [*messages, REPORT]}


def _patch_command(settings: Settings, kind: str, thing: Thing, patch: Thing) -> str:
    return (
        f'curl -X PATCH {settings.vapi_base_url}/{kind}/{thing["id"]} -H "Authorization: Bearer $VAPI_API_KEY"'
        f" -H 'Content-Type: application/json' -d '{json.dumps(patch)}'"
    )


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
