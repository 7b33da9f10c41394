"""The description of the receiver is true, and nothing that it allows brings the receiver down."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis.checks import CHECKS
from sqlalchemy import Engine
from starlette.routing import Route

from receiver.app import create_app
from receiver.openapi import OPENAPI
from tests.books import Books
from tests.prefects import prefect_answering
from tests.receiver.conftest import STRIPE, VAPI_SECRET, receiver, settings_with
from tests.receiver.serving import Served

SCHEMA = schemathesis.openapi.from_dict(OPENAPI)
# A signed request is genuine whatever else its headers lack, so what is said of missing ones does not hold for it.
NOT_FOR_SIGNED: list[Any] = CHECKS.get_by_names(
    ["missing_required_header", "negative_data_rejection", "ignored_auth"]
)
OPERATOR = "operator-token"
METHODS = {"get", "post", "put", "patch", "delete"}
# Nor does it of the operator, and a window that cannot be is refused although it has the right form.
NOT_FOR_OPERATORS: list[Any] = [*NOT_FOR_SIGNED, *CHECKS.get_by_names(["positive_data_acceptance"])]


@dataclass(frozen=True)
class Bearing(requests.auth.AuthBase):
    """Proves itself as an operator does."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {OPERATOR}"
        return request


@dataclass(frozen=True)
class Signing(requests.auth.AuthBase):
    """Signs what is sent as its provider would."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        assert isinstance(raw, bytes)
        request.headers.update(STRIPE.headers(raw, time.time()))
        request.headers["Authorization"] = f"Bearer {VAPI_SECRET}"
        return request


@pytest.fixture(scope="module")
def healthy(lasting_engine: Engine) -> Iterator[Served]:
    """A receiver that has all it needs, so that a 5xx is never its right."""
    Books(lasting_engine).value("SELECT beat_heart('worker-1')")
    with (
        prefect_answering() as prefect,
        receiver(lasting_engine, prefect_api_url=prefect.api_url, operator_token=SecretStr(OPERATOR)) as served,
    ):
        yield served


def test_every_route_is_described_and_nothing_else_is(engine: Engine) -> None:
    """Paths and methods, from both sides."""
    routes = {
        (route.path, method.lower())
        for route in create_app(settings_with(), engine).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert routes == {
        (path, method) for path, operations in OPENAPI["paths"].items() for method in operations if method in METHODS
    }


def test_description_is_served_as_it_is(healthy: Served) -> None:
    """At /openapi.json."""
    with healthy.client() as client:
        assert client.get("/openapi.json").json() == OPENAPI


def test_description_is_valid_openapi() -> None:
    """By the witness's own reading."""
    SCHEMA.validate()


@SCHEMA.include(path_regex="^/api/").parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_operators_request_is_answered_as_described(case: schemathesis.Case[Any], healthy: Served) -> None:
    """With the token, whatever else is sent: a described answer, and never a 5xx."""
    with requests.Session() as session:
        session.trust_env = False
        case.call_and_validate(
            base_url=healthy.url,
            session=session,
            auth=Bearing(),
            excluded_checks=NOT_FOR_OPERATORS,
        )


@SCHEMA.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("signed", [False, True])
def test_generated_request_is_answered_as_described(
    case: schemathesis.Case[Any], healthy: Served, lasting_engine: Engine, signed: bool
) -> None:
    """Whatever a client may think up, signed or not: a described answer, and never a 5xx."""
    with requests.Session() as session:
        session.trust_env = False
        Books(lasting_engine).value("SELECT beat_heart('worker-1')")
        case.call_and_validate(
            base_url=healthy.url,
            session=session,
            auth=Signing() if signed else None,
            excluded_checks=NOT_FOR_SIGNED if signed else [],
        )
