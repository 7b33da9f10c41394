"""A served receiver on a fresh database, and deliveries as the providers sign them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from billing.database import open_engine
from billing.settings import Settings
from calltally.sandbox.signing import Signer, StripeSignature, VapiBearer
from receiver.app import create_app
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
    """A served receiver with these settings."""
    with serving(create_app(settings_with(**changes), engine)) as served:
        yield served


@pytest.fixture
def serve(engine: Engine) -> Iterator[Serve]:
    """Serve a receiver on the test's database; keyword arguments are settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(receiver(engine, **changes))


@pytest.fixture(scope="module")
def standing(emptied_url: str) -> Iterator[Served]:
    """A receiver with one secret for each provider, for all tests of a file that ask no more of it."""
    engine = open_engine(emptied_url)
    with receiver(engine) as served:
        yield served
    engine.dispose()


@pytest.fixture
def served(standing: Served, database_url: str) -> Served:
    """That receiver, with an empty inbox."""
    return standing


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of it."""
    with served.client() as client:
        yield client


@contextmanager
def database_copy(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database."""
    name = f"receiver_{uuid4().hex[:12]}"
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def lasting_engine(postgres_url: str, template: str) -> Iterator[Engine]:
    """One database for a whole table of cases that leave nothing in it."""
    with database_copy(postgres_url, template) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def emptied_url(postgres_url: str, template: str) -> Iterator[str]:
    """The database of all tests of a file that leave its tables as they are."""
    with database_copy(postgres_url, template) as url:
        yield url


@pytest.fixture
def own_tables(postgres_url: str, template: str) -> Iterator[str]:
    """A database of the test's own, because it changes tables."""
    with database_copy(postgres_url, template) as url:
        yield url


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty inbox."""
    if "own_tables" in request.fixturenames:
        yield request.getfixturevalue("own_tables")
        return
    url: str = request.getfixturevalue("emptied_url")
    yield url
    _execute(url, "DELETE FROM events; DELETE FROM event_bodies; DELETE FROM workers")


@pytest.fixture
def owner(database_url: str) -> Iterator[Engine]:
    """Connections that may change what no program may change."""
    engine = open_engine(database_url, role=None)
    yield engine
    engine.dispose()


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
