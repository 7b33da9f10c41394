"""Stripe's side: does an enabled webhook endpoint send what we need to where we are?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from billing.events import MEANINGS, REPEATING
from billing.settings import Settings
from billing.stripe_client import API_VERSION
from calltally.doctor.database import clock_skew
from calltally.doctor.findings import Area, Finding

AREA = Area("stripe")
READ = {
    "/v1/checkout/sessions": "Checkout Sessions",
    "/v1/invoices": "Invoices",
    "/v1/payment_intents": "PaymentIntents",
    "/v1/refunds": "Refunds",
}
"""What a key has to be allowed to read, by where it is listed."""
NEEDED = sorted(kind for provider, kind in MEANINGS if provider == "stripe" and kind not in REPEATING)
REFUNDS_TOLD_SINCE = "2024-10-28"
"""API version; endpoints of older ones get no `refund.*` for charges: docs.stripe.com/changelog/acacia/2024-10-28."""
TOLD_INSTEAD = ["charge.refund.updated", "charge.refunded"]


def check_stripe(settings: Settings) -> list[Finding]:
    """Ask Stripe's API for its webhook endpoints."""
    if settings.stripe_api_key is None:
        return [AREA.warning("not looked at: STRIPE_API_KEY is not set", "set it, and run calltally doctor again")]
    headers = {"Authorization": f"Bearer {settings.stripe_api_key.get_secret_value()}"}
    try:
        with httpx.Client(base_url=settings.stripe_api_base, headers=headers, timeout=20) as client:
            answer = client.get("/v1/webhook_endpoints", params={"limit": 100}).raise_for_status()
            endpoints: list[dict[str, Any]] = answer.json()["data"]
            found = [*_thin_endpoints(settings, client, endpoints), *_reading(client)]
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
        *found,
    ]


def _thin_endpoints(settings: Settings, client: httpx.Client, endpoints: list[dict[str, Any]]) -> Iterator[Finding]:
    """Thin endpoints are only in the list of API v2, where the others stand as well; a key that may not read it, or
    an account without it, says nothing about them."""
    answer = client.get(
        "/v2/core/event_destinations",
        params={"include[0]": "webhook_endpoint.url"},
        headers={"Stripe-Version": API_VERSION},
    )
    if not answer.is_success:
        return
    for destination in answer.json()["data"]:
        url = (destination.get("webhook_endpoint") or {}).get("url") or ""
        if destination.get("event_payload") != "thin" or not _is_ours(settings, url):
            continue
        name = f"thin endpoint {destination['id']}"
        if any(_is_ours(settings, endpoint["url"]) for endpoint in endpoints):
            yield AREA.warning(
                f"{name} tells us what snapshot endpoints tell as well: every payment is asked about for nothing",
                f"disable it: Stripe dashboard > Developers > Webhooks, {destination['id']}",
            )
            continue
        enabled = destination.get("enabled_events") or []
        missing = [] if "*" in enabled else [kind for kind in NEEDED if f"v1.{kind}" not in enabled]
        if missing:
            yield AREA.problem(
                f"{name} does not send {', '.join(f'v1.{kind}' for kind in missing)}",
                f"add them in Stripe dashboard > Developers > Webhooks, {destination['id']}",
                missing=missing,
            )
        yield AREA.warning(
            f"{name} sends what changed and not what it is now: everything has to be asked for",
            "make an endpoint with snapshot payloads instead; until then STRIPE_API_KEY has to be allowed to read it",
        )


def _is_ours(settings: Settings, url: str) -> bool:
    """Whether it leads to our receiver; by its path alone as long as nobody says where that is."""
    if settings.public_url is None:
        return urlsplit(url).path.rstrip("/").endswith("/webhooks/stripe")
    return url.rstrip("/") == f"{settings.public_url.rstrip('/')}/webhooks/stripe"


def _reading(client: httpx.Client) -> Iterator[Finding]:
    """What was sold by a payment is asked for; a restricted key has to be allowed that."""
    for path, right in READ.items():
        if client.get(path, params={"limit": 1}).status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            yield AREA.problem(
                f"the key may not read {right}: what was sold by a payment, or its tax, cannot be asked for",
                f"give the restricted key '{right}: Read' in Stripe dashboard > Developers > API keys",
            )


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
    ours = [endpoint for endpoint in endpoints if _is_ours(settings, endpoint["url"])]
    if not ours:
        others = ", ".join(f"{endpoint['id']} → {endpoint['url']}" for endpoint in endpoints)
        types = "".join(f" -d 'enabled_events[]={kind}'" for kind in NEEDED)
        yield AREA.problem(
            f"no endpoint sends to {wanted}" + (f"; there are: {others}" if others else ""),
            f"{_curl(settings, '')} -d url={wanted} -d api_version={API_VERSION}{types}; then put the"
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
        if _is_ours(settings, endpoint["url"]):
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
    version = endpoint.get("api_version")
    needed = [*NEEDED, *(TOLD_INSTEAD if version and version < REFUNDS_TOLD_SINCE else [])]
    missing = [] if "*" in enabled else [kind for kind in needed if kind not in enabled]
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
    if version is None or version.partition(".")[2] != API_VERSION.partition(".")[2]:
        yield AREA.warning(
            f"{name} renders events in {version or 'the default version of the account'}; tested is {API_VERSION}",
            f"make a new endpoint with api_version={API_VERSION} (that of one cannot change), put both secrets"
            " into STRIPE_WEBHOOK_SECRETS, then delete the old one",
        )


def _curl(settings: Settings, path: str) -> str:
    return f'curl {settings.stripe_api_base}/v1/webhook_endpoints{path} -u "$STRIPE_API_KEY:"'
