"""Twilio's side: is the token accepted, and may it read the account?"""

from urllib.parse import quote

import httpx

from billing.settings import Settings
from billing.twilio_api import API_VERSION
from calltally.doctor.findings import Area, Finding

AREA = Area("twilio")


def check_twilio(settings: Settings) -> list[Finding]:
    """Ask Twilio's API for the account, with each token in turn; nothing where Twilio is not used."""
    sid, tokens = settings.twilio_account_sid, settings.twilio_auth_token
    if sid is None or not tokens:
        return []
    try:
        with httpx.Client(base_url=settings.twilio_base_url, timeout=20) as client:
            path = f"/{API_VERSION}/Accounts/{quote(sid, safe='')}.json"
            answers = [client.get(path, auth=(sid, token.get_secret_value())) for token in tokens]
            return [_judge(place, answer) for place, answer in enumerate(answers)]
    except (httpx.HTTPError, ValueError) as error:
        fix = "check TWILIO_BASE_URL (https://api.twilio.com) and status.twilio.com"
        return [
            AREA.problem(f"{settings.twilio_base_url} does not answer as Twilio does ({type(error).__name__})", fix)
        ]


def _judge(place: int, answer: httpx.Response) -> Finding:
    if answer.is_success:
        status = str(answer.json()["status"]) if "status" in answer.json() else "unknown"
        if status != "active":
            return AREA.problem(f"the account is {status}", "see console.twilio.com: it may be unpaid or closed")
        return AREA.ok("the token is accepted" if place == 0 else "the other token is accepted too")
    if answer.status_code == httpx.codes.UNAUTHORIZED and place > 0:
        return AREA.warning(
            "Twilio refuses the second token of TWILIO_AUTH_TOKEN",
            "if the rotation is over, leave the old one out; if it is the new one, request it in the console first",
        )
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}:
        fix = "copy account SID and primary auth token from console.twilio.com, Account Info; check TWILIO_BASE_URL"
        return AREA.problem(f"Twilio refuses TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN ({answer.status_code})", fix)
    return AREA.problem(f"Twilio answers {answer.status_code}", "try again in a minute; see status.twilio.com")
