"""Do Vapi's assistants and phone numbers send their reports here, with retries and a credential that is accepted?

One server gets the reports of a call: the assistant's, else the phone number's, else the organization's, which only
the dashboard shows (docs.vapi.ai/server-url/setting-server-urls). Without `backoffPlan` Vapi tries once.
"""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from billing.settings import Settings
from calltally.doctor.findings import Finding
from calltally.doctor.vapi_routes import AREA, Thing, name_of

REPORT = "end-of-call-report"
BACKOFF = {"type": "exponential", "maxRetries": 10, "baseDelaySeconds": 5}
SENDS = {"authorization": "bearer", "x-vapi-secret": "secret"}
"""The headers that a server may send without a credential, and the VAPI_WEBHOOK_AUTH that looks at each; none is
looked at by `hmac`, since only a credential signs (docs.vapi.ai/server-url/server-authentication)."""
KINDS = {"bearer": "Bearer token", "secret": "X-Vapi-Secret", "hmac": "HMAC"}
"""How each VAPI_WEBHOOK_AUTH is called at Vapi."""


def check_servers(settings: Settings, assistants: list[Thing], numbers: list[Thing]) -> Iterator[Finding]:
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
            elif troubles := [*_server_troubles(settings, server, wanted), *_message_troubles(kind, thing)]:
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


def _server_troubles(settings: Settings, server: Thing, wanted: str | None) -> Iterator[str]:
    if wanted and server["url"].rstrip("/") != wanted:
        yield f"it reports to {_without_secrets(server['url'])}, not to {wanted}"
    if not (server.get("backoffPlan") or {}).get("maxRetries"):
        yield "it has no backoffPlan, so a report that fails once is lost until the night"
    if refused := _sent_in_vain(settings, server):
        yield (
            f"it sends {refused}, which VAPI_WEBHOOK_AUTH={settings.vapi_webhook_auth} does not look at, so its"
            " reports are refused with 401"
        )
    elif not _accepted(settings, server):
        yield "it has no credential, so its reports are refused with 401"


def _accepted(settings: Settings, server: Thing) -> bool:
    """Whether it may send what the receiver looks at; what a credential sends, nobody can see."""
    return bool(server.get("credentialId")) or settings.vapi_webhook_auth in _sent(server).values()


def _sent_in_vain(settings: Settings, server: Thing) -> str | None:
    """What it sends in vain, if it sends nothing else."""
    sent = _sent(server)
    return " and ".join(sent) if sent and not _accepted(settings, server) else None


def _sent(server: Thing) -> dict[str, str]:
    """The headers that prove who it is, as people write them, and the VAPI_WEBHOOK_AUTH of each."""
    headers = {*map(str.lower, server.get("headers") or {}), *(["x-vapi-secret"] if server.get("secret") else [])}
    return {header.title(): auth for header, auth in SENDS.items() if header in headers}


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
    if not _accepted(settings, server):
        patched["credentialId"] = "ID-OF-YOUR-CREDENTIAL"
    patch = {"server": patched, **(_messages(thing) if kind == "assistant" else {})}
    what = f"{kind.replace('-', ' ')} {name_of(thing)}: {'; '.join(troubles)}"
    fix = _patch_command(settings, kind, thing, patch) + _hints(settings, server)
    return AREA.problem(what, fix, id=thing["id"], patch=patch)


def _hints(settings: Settings, server: Thing) -> str:
    """What the patch cannot hold, and the other way out of a header that is not looked at."""
    refused = _sent_in_vain(settings, server)
    again = [name for name in server.get("headers") or {} if not (refused and name.lower() in SENDS)]
    again += ["secret"] if server.get("secret") and not refused else []
    hints = f" (add again, since they are not shown here: {', '.join(again)})" if again else ""
    if refused:
        other = next(iter(_sent(server).values()))
        hints += (
            f", where the credential is of the kind {KINDS[settings.vapi_webhook_auth]}; or, if every server sends"
            f" {refused}: set VAPI_WEBHOOK_AUTH={other} and VAPI_WEBHOOK_SECRETS to what it sends, and restart the"
            " receivers"
        )
    return hints


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
