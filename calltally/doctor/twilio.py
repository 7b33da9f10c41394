"""Twilio's side: are the tokens accepted, and does each account that is routed have its own?

A subaccount's callbacks are signed with the subaccount's own token, never with that of its main account
(https://github.com/twilio/twilio-php/issues/436), while the API takes the main account's for both
(https://www.twilio.com/docs/iam/api/subaccounts).
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx

from billing.settings import Settings
from billing.twilio_api import API_VERSION
from billing.twilio_signature import TwilioSecrets
from calltally.doctor.findings import Area, Finding
from calltally.doctor.vapi_routes import Routed

AREA = Area("twilio")
TRIED = 50
"""Subaccounts that a token is tried at, those with a route first."""


def check_twilio(settings: Settings, routed: Routed | None = None) -> list[Finding]:
    """Ask Twilio's API for the account, with each token in turn; nothing where Twilio is not used."""
    sid, secrets = settings.twilio_account_sid, settings.twilio_secrets
    if sid is None or not secrets.of(sid):
        return []
    paying = [account for kind, account in routed or {} if kind == "twilio_account" and account != sid]
    try:
        with httpx.Client(base_url=settings.twilio_base_url, timeout=20) as client:
            return [*_tokens(client, sid, secrets, paying), *_queries(client, sid, secrets.of(sid)[0])]
    except (httpx.HTTPError, ValueError) as error:
        fix = "check TWILIO_BASE_URL (https://api.twilio.com) and status.twilio.com"
        return [
            AREA.problem(f"{settings.twilio_base_url} does not answer as Twilio does ({type(error).__name__})", fix)
        ]


def _tokens(client: httpx.Client, sid: str, secrets: TwilioSecrets, paying: list[str]) -> Iterator[Finding]:
    """The account's first; each further one in nobody's name is the account's while it is rotated, or a subaccount's.

    Of those that say whose they are as many are tried, those of accounts with a route first.
    """
    tokens = secrets.of(sid)
    answer = _get(client, sid, sid, tokens[0])
    yield _judge(answer)
    listed = _subaccounts(client, sid, tokens[0]) if answer.is_success else []
    known = [*dict.fromkeys([*paying, *listed])][:TRIED]
    opened = set()
    for place, token in enumerate(tokens[1:], 2):
        owner = next((account for account in (sid, *known) if _opens(client, account, token)), None)
        opened.add(owner)
        if owner is None:
            yield AREA.warning(
                f"token {place} of TWILIO_AUTH_TOKEN opens neither the account nor one of {len(known)} subaccount(s)",
                "an old one of the account, once the rotation is over: leave it out; a new one: request it in the"
                " console first; a subaccount's: keep it if that account is active, and copy it again if it changed",
            )
        elif owner == sid:
            yield AREA.ok(f"token {place} is accepted: it is the account's too")
        else:
            yield AREA.warning(
                f"token {place} of TWILIO_AUTH_TOKEN is that of subaccount {owner}, and does not say so: it is tried"
                " for every callback, and speaks for every account",
                f"write it as {owner}:token in TWILIO_AUTH_TOKEN",
                id=owner,
            )
    owned = [account for account in secrets.owned or {} if account.startswith("AC") and account != sid]
    for account in sorted(owned, key=lambda one: one not in paying)[:TRIED]:
        opened.add(account)
        if not any(_opens(client, account, token) for token in secrets.of(account)):
            yield AREA.warning(
                f"the token of {account} in TWILIO_AUTH_TOKEN is not that of this account: its callbacks are refused",
                "copy its primary auth token again, or leave it out if the account is closed",
                id=account,
            )
    for account in paying:
        if account not in {*opened, *owned}:
            yield AREA.problem(
                f"account {account} has a route, and TWILIO_AUTH_TOKEN holds no token of its own: its callbacks are"
                " refused with 401",
                "put its primary auth token (console.twilio.com, that account's Account Info) behind the main one, as"
                f" TWILIO_AUTH_TOKEN=main,{account}:its, and restart the receivers",
                id=account,
            )


def _queries(client: httpx.Client, sid: str, token: str) -> Iterator[Finding]:
    """Messaging Services whose callback has a query, which Twilio may sign in another order than it calls
    (https://github.com/twilio/twilio-php/issues/790); they live at a host of their own
    (https://www.twilio.com/docs/messaging/api/service-resource).
    """
    base = client.base_url.copy_with(host=re.sub(r"^api\.", "messaging.", client.base_url.host))
    answer = client.get(f"{base}v1/Services", params={"PageSize": TRIED}, auth=(sid, token))
    services = answer.json().get("services", []) if answer.is_success else []
    for service in services:
        address = str(service.get("status_callback") or "")
        if urlsplit(address).query:
            yield AREA.warning(
                f"the status callback of Messaging Service {service.get('sid')} has a query: Twilio may sign it in"
                " another order than it calls it, and a callback that cannot be proved is refused with 401",
                "leave the query out, or write its parameters in alphabetical order, four at most",
                id=str(service.get("sid")),
            )


def _get(client: httpx.Client, account: str, user: str, token: str) -> httpx.Response:
    return client.get(f"/{API_VERSION}/Accounts/{quote(account, safe='')}.json", auth=(user, token))


def _opens(client: httpx.Client, account: str, token: str) -> bool:
    """Whether it is this account's own token; an answer that says neither is an error."""
    answer = _get(client, account, account, token)
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}:
        return False
    return answer.raise_for_status().is_success


def _subaccounts(client: httpx.Client, sid: str, token: str) -> list[str]:
    """Those that are active; the list has the account itself as well."""
    parameters: dict[str, str | int] = {"Status": "active", "PageSize": TRIED}
    answer = client.get(f"/{API_VERSION}/Accounts.json", params=parameters, auth=(sid, token))
    accounts = answer.json().get("accounts", []) if answer.is_success else []
    return [account["sid"] for account in accounts if account["sid"] != sid]


def _judge(answer: httpx.Response) -> Finding:
    if answer.is_success:
        status = str(answer.json()["status"]) if "status" in answer.json() else "unknown"
        if status != "active":
            return AREA.problem(f"the account is {status}", "see console.twilio.com: it may be unpaid or closed")
        return AREA.ok("the token is accepted")
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}:
        fix = "copy account SID and primary auth token from console.twilio.com, Account Info; check TWILIO_BASE_URL"
        return AREA.problem(f"Twilio refuses TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN ({answer.status_code})", fix)
    return AREA.problem(f"Twilio answers {answer.status_code}", "try again in a minute; see status.twilio.com")
