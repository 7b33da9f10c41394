"""Settings by their shape: what can be seen of a secret without showing it."""

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from billing.settings import Settings, misspelt
from calltally.doctor.findings import Area, Finding

AREA = Area("settings")
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
SHORT_SECRET = 16
"""Characters; a shorter one can be guessed."""
SLACK_URL = re.compile(r"https://hooks\.slack(-gov)?\.com/(services|workflows|triggers)/\S+")
TWILIO_ACCOUNT = re.compile(r"AC[0-9a-f]{32}")
PLACEHOLDERS = {"changeme", "change-me", "secret", "xxx", "todo", "password", "token"}


def check_settings(settings: Settings, env_file: Path = Path(".env")) -> list[Finding]:
    """Every setting that people get wrong."""
    found = [
        *_stripe(settings),
        *_vapi(settings),
        *_twilio(settings),
        *_public_url(settings.public_url),
        *_operators(settings),
        *_env_file(env_file),
        *_misspelt(env_file),
    ]
    return found or [AREA.ok("they have the right shapes")]


def _stripe(settings: Settings) -> Iterator[Finding]:
    if not settings.stripe_webhook_secrets:
        yield AREA.problem(
            "STRIPE_WEBHOOK_SECRETS is empty: every webhook of Stripe's is refused with 401",
            "set it to the signing secret (whsec_…) of the endpoint: Stripe dashboard > Developers > Webhooks",
        )
    for secret in _texts(settings.stripe_webhook_secrets):
        if not secret.startswith("whsec_"):
            kind = "is an API key" if secret.startswith(("sk_", "rk_", "pk_")) else "does not begin with whsec_"
            yield AREA.problem(
                f"a secret in STRIPE_WEBHOOK_SECRETS {kind}, so no signature will match",
                "copy the endpoint's signing secret (whsec_…) from Stripe dashboard > Developers > Webhooks",
            )
    yield from _stripe_key(settings)


def _stripe_key(settings: Settings) -> Iterator[Finding]:
    if settings.stripe_api_key is None:
        yield AREA.warning(
            "STRIPE_API_KEY is not set: nobody can look at Stripe's side, nor ask what of a payment is tax",
            "set it to a restricted key (rk_…) that may read Checkout Sessions, PaymentIntents, Charges, Disputes,"
            " Invoices, events and webhook endpoints",
        )
        return
    key = settings.stripe_api_key.get_secret_value()
    if key.startswith("pk_"):
        yield AREA.problem(
            "STRIPE_API_KEY is a publishable key (pk_…), which may read nothing",
            "set a secret or restricted key (sk_… or rk_…): Stripe dashboard > Developers > API keys",
        )
    elif not key.startswith(("sk_", "rk_")):
        yield AREA.problem(
            "STRIPE_API_KEY begins neither with sk_ nor with rk_",
            "copy a secret or restricted key from Stripe dashboard > Developers > API keys",
        )
    of_key = True if "_live_" in key else False if "_test_" in key else None
    if settings.stripe_livemode is not None and of_key is not None and settings.stripe_livemode is not of_key:
        yield AREA.problem(
            f"STRIPE_LIVEMODE is {str(settings.stripe_livemode).lower()}, but STRIPE_API_KEY is of the other mode",
            "remove STRIPE_LIVEMODE, so that the key decides, or use the key of that mode",
        )


def _vapi(settings: Settings) -> Iterator[Finding]:
    if settings.vapi_api_key is None:
        yield AREA.problem(
            "VAPI_API_KEY is not set: no night can compare the books, and lost webhooks stay lost",
            "set the private key: Vapi dashboard > Organization Settings > API Keys",
        )
    if not settings.vapi_webhook_secrets:
        yield AREA.problem(
            "VAPI_WEBHOOK_SECRETS is empty: every webhook of Vapi's is refused with 401",
            "set it to what Vapi's credential sends: Vapi dashboard > Organization Settings > Integrations >"
            " Custom Credential",
        )
    for secret in _texts(settings.vapi_webhook_secrets):
        if secret.startswith("whsec_"):
            yield AREA.problem(
                "a secret in VAPI_WEBHOOK_SECRETS is one of Stripe's (whsec_…)",
                "set what Vapi's credential sends, and check that the two are not swapped",
            )
        elif len(secret) < SHORT_SECRET or secret.lower() in PLACEHOLDERS:
            yield AREA.warning(
                f"a secret in VAPI_WEBHOOK_SECRETS has fewer than {SHORT_SECRET} characters: it can be guessed",
                "make one with: openssl rand -hex 32; set it here beside the old one, then in Vapi's credential",
            )
    if settings.vapi_webhook_auth == "hmac" and "{timestamp}" not in settings.vapi_hmac_payload_format:
        yield AREA.warning(
            "VAPI_HMAC_PAYLOAD_FORMAT has no {timestamp}: whoever saw a delivery can send it again",
            "include the timestamp in Vapi's credential, and set VAPI_HMAC_PAYLOAD_FORMAT={timestamp}.{body}",
        )


def _twilio(settings: Settings) -> Iterator[Finding]:
    """Only where Twilio is used at all."""
    sid, tokens = settings.twilio_account_sid, settings.twilio_auth_token
    if (sid is None) != (not tokens):
        missing = "TWILIO_ACCOUNT_SID" if sid is None else "TWILIO_AUTH_TOKEN"
        yield AREA.problem(f"{missing} is not set, though its other half is", "copy both from console.twilio.com")
    if sid is not None and not TWILIO_ACCOUNT.fullmatch(sid):
        yield AREA.problem("TWILIO_ACCOUNT_SID is not AC and 32 digits", "copy it from console.twilio.com")
    if tokens and settings.public_url is None:
        yield AREA.problem(
            "Twilio signs the address that it calls, and PUBLIC_URL is not set: its callbacks are refused",
            "set PUBLIC_URL to the address that Twilio calls, without the path",
        )


def _public_url(public_url: str | None) -> Iterator[Finding]:
    if public_url is None:
        yield AREA.warning(
            "PUBLIC_URL is not set, so nobody can tell whether the providers send to the right place",
            "set it to where they reach the receiver, for example PUBLIC_URL=https://billing.example.com",
        )
        return
    parts = urlsplit(public_url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        yield AREA.problem(
            f"PUBLIC_URL is {public_url}: Stripe sends live events to https only, and secrets would travel in clear",
            "put TLS in front of the receiver, and set PUBLIC_URL=https://…",
        )
    if "/webhooks" in parts.path:
        yield AREA.problem(
            f"PUBLIC_URL is {public_url}, with the path of a webhook",
            f"set PUBLIC_URL={public_url.partition('/webhooks')[0]}",
        )


def _operators(settings: Settings) -> Iterator[Finding]:
    if settings.operator_token is None:
        yield AREA.warning(
            "OPERATOR_TOKEN is not set: the operators' HTTP API refuses everybody",
            "set it to the output of: openssl rand -hex 32",
        )
    elif len(settings.operator_token.get_secret_value()) < SHORT_SECRET:
        yield AREA.warning(
            f"OPERATOR_TOKEN has fewer than {SHORT_SECRET} characters: it can be guessed",
            "set it to the output of: openssl rand -hex 32",
        )
    if settings.slack_webhook_url is None:
        yield AREA.warning(
            "SLACK_WEBHOOK_URL is not set: alerts reach nobody",
            "make an incoming webhook for the channel (api.slack.com/apps > Incoming Webhooks) and set its URL",
        )
        return
    url = settings.slack_webhook_url.get_secret_value()
    if not SLACK_URL.fullmatch(url) and urlsplit(url).hostname not in LOOPBACK:
        yield AREA.problem(
            "SLACK_WEBHOOK_URL is no address of an incoming webhook (https://hooks.slack.com/services/…)",
            "copy it from api.slack.com/apps > your app > Incoming Webhooks",
        )


def _env_file(file: Path) -> Iterator[Finding]:
    if file.exists() and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield AREA.warning(f"{file} holds secrets, and others on this machine can read it", f"chmod 600 {file}")


def _misspelt(file: Path) -> Iterator[Finding]:
    for name, meant in misspelt(file).items():
        yield AREA.problem(f"{name} is no setting, and {meant} is not set", f"if {meant} was meant, rename it")


def _texts(secrets: Sequence[SecretStr]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]
