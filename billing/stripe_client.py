"""Asks Stripe for what its events do not say: one request a question, with the version of its API pinned."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from billing.errors import BillingError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.payments import NOTHING, Question
from billing.process import NotConfigured
from billing.settings import Settings

if TYPE_CHECKING:
    import stripe

API_VERSION: Final = "2026-10-28.endive"
"""Of our requests and of the endpoints that we ask for: the one whose bodies the tests hold."""
TIMEOUT_SECONDS: Final = (3.0, 20.0)
"""To connect, and between bytes; the library's own is 80."""
NOT_FOUND: Final = 404
WORTH_ANOTHER_TRY: Final = frozenset([408, 409])

Request = Callable[["stripe.StripeClient", str], Any]
REQUESTS: Final[Mapping[str, Request]] = {
    "session_of": lambda client, payment: client.v1.checkout.sessions.list({"payment_intent": payment, "limit": 1}),
    "invoices_of": lambda client, payment: client.v1.invoice_payments.list(
        {
            "payment": {"type": "payment_intent", "payment_intent": payment},
            "limit": 1,
            "expand": ["data.invoice"],
        }
    ),
    "refunds_of": lambda client, payment: client.v1.refunds.list({"payment_intent": payment, "limit": 100}),
    "invoice": lambda client, name: client.v1.invoices.retrieve(name),
    "payment_intent": lambda client, name: client.v1.payment_intents.retrieve(name),
    "checkout.session": lambda client, name: client.v1.checkout.sessions.retrieve(name),
    "refund": lambda client, name: client.v1.refunds.retrieve(name),
    "charge": lambda client, name: client.v1.charges.retrieve(name),
    "dispute": lambda client, name: client.v1.disputes.retrieve(name),
}
"""By the kind of a question; what a restricted key has to be allowed to read."""


def ask(settings: Settings, question: Question) -> bytes:
    """What Stripe answers, as JSON; `null` if it knows of no such object.

    Raises:
        NotConfigured: there is no key.
        ProviderRefused: wrong key, or one that may not read this.
        RateLimited, ProviderUnavailable: worth another try.
    """
    if settings.stripe_api_key is None:
        raise NotConfigured("STRIPE_API_KEY is not set: Stripe cannot be asked what was sold")
    import stripe  # noqa: PLC0415 - takes a third of a second and 24 MB, and most processes never ask

    client = _client(settings.stripe_api_key.get_secret_value(), settings.stripe_api_base)
    try:
        found = REQUESTS[question.kind](client, question.id)
    except stripe.StripeError as error:
        if error.http_status == NOT_FOUND:
            return NOTHING
        raise _translated(error, question) from error
    content = found.last_response.body
    return content if isinstance(content, bytes) else str(content).encode()


def _translated(error: "stripe.StripeError", question: Question) -> BillingError:
    """Our error, without Stripe's words: they may quote what was asked for."""
    import stripe  # noqa: PLC0415

    status = error.http_status
    if isinstance(error, stripe.RateLimitError):
        return RateLimited("Stripe asks us to slow down (429)", status=status)
    if status is None or status >= 500 or status in WORTH_ANOTHER_TRY:  # noqa: PLR2004
        return ProviderUnavailable(f"Stripe did not answer ({status or type(error).__name__})", status=status)
    return ProviderRefused(
        f"Stripe refuses to show a {question.kind.removesuffix('_of')} ({status}). Set STRIPE_API_KEY to a secret"
        " key, or to a restricted one that may read Checkout Sessions, PaymentIntents, Charges, Refunds, Disputes,"
        " Invoices",
        status=status,
    )


@cache
def _client(api_key: str, api_base: str) -> "stripe.StripeClient":
    """Made once; it retries nothing by itself, since tasks do."""
    import stripe  # noqa: PLC0415

    stripe.enable_telemetry = False  # it would write a file into the user's configuration
    return stripe.StripeClient(
        api_key,
        stripe_version=API_VERSION,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
        base_addresses={"api": api_base},
    )
