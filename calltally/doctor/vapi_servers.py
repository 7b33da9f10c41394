"""Do Vapi's assistants, squads and numbers send their reports here, with retries and a credential that is accepted?

One server gets the reports of a call: the assistant's, else the phone number's, else the organization's, which only
the dashboard shows (docs.vapi.ai/server-url/setting-server-urls). Without `backoffPlan` Vapi tries once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
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
SERVER_FIELDS = {"server", "serverUrl", "serverUrlSecret"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody may write a server at Vapi, and what is written there."""

    what: str
    """As people call it."""
    path: str
    """Of the request that changes it, such as `squad/ID`."""
    fields: Thing
    """Those that count: nothing else overrides them."""
    inside: str = ""
    """Where in a squad, as jq says it: `.members[0].assistantOverrides`."""
    must_report: bool = False
    """Whether calls are told nowhere known if it has no server."""


def check_servers(
    settings: Settings, assistants: list[Thing], squads: list[Thing], numbers: list[Thing]
) -> Iterator[Finding]:
    """One finding for each place that needs something, one for all that are well."""
    wanted = f"{settings.public_url.rstrip('/')}/webhooks/vapi" if settings.public_url else None
    well = 0
    for place in _places(assistants, squads, numbers):
        server = _server(place.fields)
        troubles = [*_server_troubles(settings, server, wanted), *_message_troubles(place.fields)]
        if place.must_report and not server.get("url"):
            yield _inherits(settings, place, wanted)
        elif troubles:
            yield _mend(settings, place, server, troubles, wanted)
        elif server.get("url"):
            well += 1
    if well:
        target = wanted or "their server (PUBLIC_URL is not set, so it was not compared)"
        yield AREA.ok(
            f"{well} assistant(s), squad override(s) and number(s) report to {target}, with retries and a credential"
        )


def _places(assistants: list[Thing], squads: list[Thing], numbers: list[Thing]) -> Iterator[Place]:
    """A number without a server leaves it to its assistant's, or the organization's."""
    for thing in assistants:
        yield Place(f"assistant {name_of(thing)}", f"assistant/{thing['id']}", thing, must_report=True)
    for squad in squads:
        yield from _squad_places(squad)
    for thing in numbers:
        yield Place(f"phone number {name_of(thing)}", f"phone-number/{thing['id']}", thing)


def _squad_places(squad: Thing) -> Iterator[Place]:
    """What is written into a squad. Vapi applies a member's overrides first, then those of all members, which win
    (docs.vapi.ai/api-reference/squads/create, `membersOverrides`); what they leave out stays as it was.
    """
    name, path = f"squad {name_of(squad)}", f"squad/{squad['id']}"
    everybody = squad.get("membersOverrides") or {}
    yield Place(f"membersOverrides of {name}", path, everybody, ".membersOverrides")
    for number, member in enumerate(squad.get("members") or []):
        inside = f".members[{number}]"
        own = member.get("assistantOverrides") or {}
        counting = _unless_overridden(own, everybody)
        yield Place(
            f"assistantOverrides of member {number + 1} of {name}", path, counting, f"{inside}.assistantOverrides"
        )
        if (written := member.get("assistant")) is not None:
            called = f"assistant {written.get('name') or 'without a name'}, member {number + 1} of {name}"
            has_server = any(_server(overrides).get("url") for overrides in (own, everybody))
            counting = _unless_overridden(written, own, everybody)
            yield Place(called, path, counting, f"{inside}.assistant", must_report=not has_server)


def _unless_overridden(fields: Thing, *later: Thing) -> Thing:
    """Without what one of `later` says instead."""
    gone: set[str] = set()
    for overrides in later:
        gone |= SERVER_FIELDS if _server(overrides).get("url") else set()
        gone |= {"serverMessages"} if overrides.get("serverMessages") is not None else set()
    return {name: part for name, part in fields.items() if name not in gone}


def _server(thing: Thing) -> Thing:
    """Its `server`, or the older `serverUrl` in the same shape."""
    server = dict(thing.get("server") or {})
    if not server.get("url") and thing.get("serverUrl"):
        server |= {"url": thing["serverUrl"], "secret": thing.get("serverUrlSecret")}
    return server


def _server_troubles(settings: Settings, server: Thing, wanted: str | None) -> Iterator[str]:
    if not server.get("url"):
        return
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


def _message_troubles(fields: Thing) -> Iterator[str]:
    """Absent means the default, which has the report."""
    messages = fields.get("serverMessages")
    if messages is not None and REPORT not in messages:
        yield f"{REPORT} is not among its serverMessages, so it never reports"


def _inherits(settings: Settings, place: Place, wanted: str | None) -> Finding:
    told = [*_message_troubles(place.fields)]
    server = {"url": wanted or "https://YOUR-RECEIVER/webhooks/vapi", "backoffPlan": BACKOFF}
    what = f"{place.what} has no server of its own: the phone number's or the organization's counts"
    command = _patch_command(settings, place, {"server": server, **_messages(place.fields)})
    fix = f"look at Vapi dashboard > Organization Settings > Server URL, or give it one: {command}"
    speak = AREA.problem if told else AREA.warning
    return speak("; ".join([what, *told]), fix, id=place.path.rpartition("/")[2])


def _mend(settings: Settings, place: Place, server: Thing, troubles: list[str], wanted: str | None) -> Finding:
    """The patch repeats what stays, since `server` is one value; its secrets are left out of it."""
    patch = _messages(place.fields)
    if server.get("url"):
        kept = {name: server[name] for name in ("timeoutSeconds", "credentialId") if server.get(name)}
        patched = {
            "url": wanted or _without_secrets(server["url"]),
            **kept,
            "backoffPlan": server.get("backoffPlan") or BACKOFF,
        }
        if not _accepted(settings, server):
            patched["credentialId"] = "ID-OF-YOUR-CREDENTIAL"
        patch = {"server": patched, **patch}
    fix = _patch_command(settings, place, patch) + _hints(settings, server)
    inside = {"inside": place.inside} if place.inside else {}
    return AREA.problem(
        f"{place.what}: {'; '.join(troubles)}", fix, id=place.path.rpartition("/")[2], **inside, patch=patch
    )


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


def _messages(fields: Thing) -> Thing:
    messages = fields.get("serverMessages")
    return {} if messages is None or REPORT in messages else {"serverMessages": [*messages, REPORT]}


def _patch_command(settings: Settings, place: Place, patch: Thing) -> str:
    """A squad's `members` are one value and may hold secrets, so it is read, changed and written in one go."""
    address = f'{settings.vapi_base_url}/{place.path} -H "Authorization: Bearer $VAPI_API_KEY"'
    write = f"curl -X PATCH {address} -H 'Content-Type: application/json' -d"
    if not place.inside:
        return f"{write} '{json.dumps(patch)}'"
    change = f"{place.inside} += {json.dumps(patch)}"
    writable = "{name, members, membersOverrides} | with_entries(select(.value != null))"
    return f"curl -s {address} | jq '{change} | {writable}' | {write} @-"
