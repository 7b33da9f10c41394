"""A served receiver on a fresh database, and deliveries as the providers sign them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from billing.settings import Settings
from calltally.sandbox.signing import Signer, StripeSignature, VapiBearer
from receiver.app import create_app
from receiver.connections import Limits
from tests.databases import Scratch
from tests.receiver.serving import Served, serving

STRIPE_SECRET = "whsec_test_current"
VAPI_SECRET = "vapi-test-current"
STRIPE = StripeSignature((STRIPE_SECRET,))
VAPI = VapiBearer(VAPI_SECRET)
JSON_TYPE = {"Content-Type": "application/json"}

Serve = Callable[..., Served]


def settings_with(**changes: Any) -> Settings:
    """Settings for a test, from nowhere else."""
    chosen: dict[str, Any] = {
        "stripe_webhook_secrets": (SecretStr(STRIPE_SECRET),),
        "vapi_webhook_secrets": (SecretStr(VAPI_SECRET),),
        **changes,
    }
    return Settings(_env_file=None, **chosen)


def signed(body: bytes, signer: Signer, at: float | None = None) -> dict[str, str]:
    """The headers of a delivery that is sent now."""
    return JSON_TYPE | signer.headers(body, time.time() if at is None else at)


def stripe_event(event_id: str, event_type: str = "payment_intent.created") -> bytes:
    """A small event."""
    return f'{{"id":"{event_id}","object":"event","type":"{event_type}"}}'.encode()


def vapi_message(call_id: str, message_type: str = "end-of-call-report") -> bytes:
    """A small message."""
    return f'{{"message":{{"type":"{message_type}","call":{{"id":"{call_id}"}}}}}}'.encode()


def send_stripe(client: httpx.Client, body: bytes, signer: Signer = STRIPE) -> httpx.Response:
    """One delivery of Stripe's."""
    return client.post("/webhooks/stripe", content=body, headers=signed(body, signer))


def send_vapi(client: httpx.Client, body: bytes, signer: Signer = VAPI) -> httpx.Response:
    """One delivery of Vapi's."""
    return client.post("/webhooks/vapi", content=body, headers=signed(body, signer))


@contextmanager
def receiver(engine: Engine, **changes: Any) -> Iterator[Served]:
    """A served receiver with these settings, and `limits` for its connections."""
    limits: Limits | None = changes.pop("limits", None)
    settings = settings_with(**changes)
    with serving(create_app(settings, engine), settings, limits) as served:
        yield served


@pytest.fixture
def serve(engine: Engine) -> Iterator[Serve]:
    """Serve a receiver on the test's database; keyword arguments are settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(receiver(engine, **changes))


@pytest.fixture(scope="module")
def standing(lasting: Scratch) -> Iterator[Served]:
    """A receiver with one secret for each provider, for all tests of a file that ask no more of it."""
    with receiver(lasting.engine) as served:
        yield served


@pytest.fixture
def served(standing: Served, scratch: Scratch) -> Served:
    """That receiver, with an empty inbox."""
    return standing


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of it."""
    with served.client() as client:
        yield client


@pytest.fixture(scope="module")
def lasting_engine(lasting: Scratch) -> Engine:
    """Books for a whole table of cases."""
    lasting.empty()
    return lasting.engine


@pytest.fixture
def owner(scratch: Scratch) -> Engine:
    """Connections that may change what no program may change."""
    return scratch.owner.engine
