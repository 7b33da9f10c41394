"""Stripe's side: does an enabled webhook endpoint send what we need to where we are?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from billing.events import MEANINGS
from billing.settings import Settings
from calltally.doctor.database import clock_skew
from calltally.doctor.findings import Area, Finding

AREA = Area("stripe")
TESTED_VERSION = "2026-10-28.endive"
"""The API version whose events the tests hold."""
NEEDED = sorted(kind for provider, kind in MEANINGS if provider == "stripe")


def check_stripe(settings: Settings) -> list[Finding]:
    """Ask Stripe's API for its webhook endpoints."""
    if settings.stripe_api_key is None:
        return [AREA.warning("not looked at: STRIPE_API_KEY is not set", "set it, and run calltally doctor again")]
    headers = {"Authorization": f"Bearer {settings.stripe_api_key.get_secret_value()}"}
    try:
        with httpx.Client(base_url=settings.stripe_api_base, headers=headers, timeout=20) as client:
            answer = client.get("/v1/webhook_endpoints", params={"limit": 100}).raise_for_status()
            endpoints: list[dict[str, Any]] = answer.json()["data"]
    except httpx.HTTPStatusError as error:
        return [_refused(error.response.status_code)]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        fix = "check STRIPE_API_BASE (https://api.stripe.com) and status.stripe.com"
        return [
            AREA.problem(f"{settings.stripe_api_base} does not answer as Stripe does ({type(error).__name__})", fix)
        ]
    return [
        AREA.ok(f"the key is accepted: {len(endpoints)} webhook endpoint(s)"),
        *_clock(answer),
        *_endpoints(settings, endpoints),
    ]


def _refused(status: int) -> Finding:
    if status == httpx.codes.UNAUTHORIZED:
        fix = "copy a secret or restricted key from Stripe dashboard > Developers > API keys"
        return AREA.problem("Stripe refuses STRIPE_API_KEY", fix)
    if status == httpx.codes.FORBIDDEN:
        fix = "give the restricted key 'Webhook Endpoints: Read' in Stripe dashboard > Developers > API keys"
        return AREA.warning("the key may not read webhook endpoints, so they were not looked at", fix)
    return AREA.problem(f"/v1/webhook_endpoints answers {status}", "try again in a minute; see status.stripe.com")


def _clock(answer: httpx.Response) -> Iterator[Finding]:
    """By the header Date, which has whole seconds."""
    if date := answer.headers.get("date"):
        ahead = abs((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
        yield from clock_skew(AREA, "Stripe's clock", max(0.0, ahead - 1 - answer.elapsed.total_seconds()))


def _endpoints(settings: Settings, endpoints: list[dict[str, Any]]) -> Iterator[Finding]:
    if settings.public_url is None:
        yield from _likely(settings, endpoints)
        return
    wanted = f"{settings.public_url.rstrip('/')}/webhooks/stripe"
    ours = [endpoint for endpoint in endpoints if endpoint["url"].rstrip("/") == wanted]
    if not ours:
        others = ", ".join(f"{endpoint['id']} → {endpoint['url']}" for endpoint in endpoints)
        types = "".join(f" -d 'enabled_events[]={kind}'" for kind in NEEDED)
        yield AREA.problem(
            f"no endpoint sends to {wanted}" + (f"; there are: {others}" if others else ""),
            f"{_curl(settings, '')} -d url={wanted} -d api_version={TESTED_VERSION}{types}; then put the"
            " answer's secret into STRIPE_WEBHOOK_SECRETS",
        )
    for endpoint in ours:
        yield from _examine(settings, endpoint)
    if len(ours) > max(1, len(settings.stripe_webhook_secrets)):
        yield AREA.warning(
            f"{len(ours)} endpoints send to {wanted}, each with a secret of its own, and every event comes twice",
            f"disable all but one: {_curl(settings, '/' + ours[-1]['id'])} -d disabled=true",
        )


def _likely(settings: Settings, endpoints: list[dict[str, Any]]) -> Iterator[Finding]:
    """By the path alone, as long as nobody knows under which name the providers reach the receiver."""
    places = ", ".join(f"{endpoint['url']} ({endpoint.get('status')})" for endpoint in endpoints) or "none"
    yield AREA.warning(
        f"PUBLIC_URL is not set, so no endpoint's address was compared; there are: {places}", "set PUBLIC_URL"
    )
    for endpoint in endpoints:
        if urlsplit(endpoint["url"]).path.rstrip("/").endswith("/webhooks/stripe"):
            yield from _examine(settings, endpoint)


def _examine(settings: Settings, endpoint: dict[str, Any]) -> Iterator[Finding]:
    troubles = [*_troubles(settings, endpoint)]
    yield from troubles or [AREA.ok(f"endpoint {endpoint['id']} sends all that is needed to {endpoint['url']}")]


def _troubles(settings: Settings, endpoint: dict[str, Any]) -> Iterator[Finding]:
    name = f"endpoint {endpoint['id']}"
    curl = _curl(settings, f"/{endpoint['id']}")
    if endpoint.get("status") != "enabled":
        yield AREA.problem(
            f"{name} is {endpoint.get('status')}: payments are not credited", f"{curl} -d disabled=false"
        )
    enabled = endpoint.get("enabled_events") or []
    missing = [] if "*" in enabled else [kind for kind in NEEDED if kind not in enabled]
    if missing:
        types = "".join(f" -d 'enabled_events[]={kind}'" for kind in [*enabled, *missing])
        yield AREA.problem(f"{name} does not send {', '.join(missing)}", f"{curl}{types}", missing=missing)
    expected = settings.stripe_expects_livemode
    if expected is not None and endpoint.get("livemode") is not expected:
        mode, other = ("live", "test") if endpoint.get("livemode") else ("test", "live")
        yield AREA.problem(
            f"{name} is in {mode} mode, and events of that mode are parked here",
            f"make the endpoint in {other} mode, or set STRIPE_LIVEMODE and STRIPE_API_KEY to {mode} mode",
        )
    version = endpoint.get("api_version")
    if version is None or version.partition(".")[2] != TESTED_VERSION.partition(".")[2]:
        yield AREA.warning(
            f"{name} renders events in {version or 'the default version of the account'}; tested is {TESTED_VERSION}",
            f"make a new endpoint with api_version={TESTED_VERSION} (that of one cannot change), put both secrets"
            " into STRIPE_WEBHOOK_SECRETS, then delete the old one",
        )


def _curl(settings: Settings, path: str) -> str:
    return f'curl {settings.stripe_api_base}/v1/webhook_endpoints{path} -u "$STRIPE_API_KEY:"'
