"""`POST /webhooks/twilio`: signed for the public URL, acknowledged at once, and applied in whatever order."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from billing import applying, inbox, sms
from billing.settings import Settings
from billing.twilio import ToldMessage
from billing.twilio_api import fetch_message, open_twilio
from calltally.sandbox.deliveries import Weather
from calltally.sandbox.serving import running_app
from calltally.sandbox.twilio import TwilioSignature, TwilioWorld
from calltally.sandbox.twilio_http import twilio_app
from tests.books import Books, Row
from tests.messages import message, price, route
from tests.receiver.conftest import Serve, receiver
from tests.receiver.serving import Served

PUBLIC_URL = "https://billing.example.com"
PATH = "/webhooks/twilio"
PAYLOADS = Path(__file__).parents[1] / "payloads" / "twilio"
NUMBER = "+15005550006"
OTHER_NUMBER = "+15005550009"
STORM = Weather(duplicate_rate=0.5, delay_rate=0.5, disorder_rate=0.5)


@pytest.fixture(scope="module")
def world() -> TwilioWorld:
    """Twilio."""
    return TwilioWorld(seed=3)


@pytest.fixture(scope="module")
def messaging(lasting_engine: Engine, world: TwilioWorld) -> Iterator[Served]:
    """A receiver behind a proxy that Twilio reaches under another name."""
    with receiver(
        lasting_engine,
        public_url=PUBLIC_URL,
        twilio_auth_token=(SecretStr(world.auth_token),),
        webhook_max_bytes=20_000,
    ) as served:
        yield served


def post(served: Served, body: bytes, signed_url: str, token: str, path: str = PATH) -> httpx.Response:
    """One delivery, signed for this URL."""
    with served.client() as client:
        return client.post(path, content=body, headers=TwilioSignature(token, signed_url).headers(body, 0))


def form(world: TwilioWorld) -> bytes:
    """A callback about a new message."""
    return world.form(world.send_message(at=datetime.now(UTC)), "delivered")


def test_genuine_status_is_stored_once_however_often_it_comes(
    messaging: Served, world: TwilioWorld, lasting_engine: Engine
) -> None:
    """By message, status and error; the query string belongs to what is signed."""
    body = form(world)
    answers = [
        post(messaging, body, f"{PUBLIC_URL}{PATH}{query}", world.auth_token, PATH + query)
        for query in ("", "?a=%20b")
    ]
    events = Books(lasting_engine).rows(
        "SELECT type, deliveries, body FROM events JOIN event_bodies ON event_id = id WHERE body = :body", body=body
    )

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"received": True})] * 2
    assert events == [{"type": "message-status", "deliveries": 2, "body": body}]


@pytest.mark.parametrize(
    ("signed_url", "token", "changed", "status", "said"),
    [
        (f"{PUBLIC_URL}{PATH}", "another token", b"", 401, "signature refused"),
        (f"{PUBLIC_URL}{PATH}", "", b"", 401, "signature refused"),
        ("https://evil.example.com" + PATH, None, b"", 401, "signature refused"),
        (f"{PUBLIC_URL}{PATH}?x=1", None, b"", 401, "signature refused"),
        (f"{PUBLIC_URL}{PATH}", None, b"&x=1", 401, "signature refused"),
        (f"{PUBLIC_URL}{PATH}", None, b"x" * 20_000, 413, "too large"),
    ],
)
def test_status_that_is_not_twilios_is_refused(
    messaging: Served,
    world: TwilioWorld,
    lasting_engine: Engine,
    signed_url: str,
    token: str | None,
    changed: bytes,
    status: int,
    said: str,
) -> None:
    """And leaves nothing behind."""
    body = form(world)
    headers = TwilioSignature(world.auth_token if token is None else token, signed_url).headers(body, 0)
    with messaging.client() as client:
        answer = client.post(PATH, content=body + changed, headers=headers)

    assert (answer.status_code, answer.json()) == (status, {"error": said})
    assert Books(lasting_engine).value("SELECT count(*) FROM event_bodies WHERE body = :body", body=body) == 0


def test_genuine_body_that_is_no_form_is_unreadable(messaging: Served, world: TwilioWorld) -> None:
    """Whoever holds the token signed it, but it is nothing that Twilio sends."""
    answer = post(messaging, b"", f"{PUBLIC_URL}{PATH}", world.auth_token)

    assert (answer.status_code, answer.json()) == (400, {"error": "not a form"})


def test_rotation_of_the_token_loses_no_callback(serve: Serve, world: TwilioWorld) -> None:
    """Old and new one are accepted at once, before and after Twilio signs with the new one; no other is."""
    served = serve(public_url=PUBLIC_URL, twilio_auth_token="old-token, new-token")
    answers = [
        post(served, form(world), f"{PUBLIC_URL}{PATH}", token).status_code
        for token in ("old-token", "new-token", "x")
    ]

    assert answers == [200, 200, 401]


def test_without_a_public_url_everything_is_refused_and_the_log_says_what_to_set(
    serve: Serve, world: TwilioWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start already."""
    caplog.set_level(logging.WARNING, "billing")
    served = serve(twilio_auth_token=(SecretStr(world.auth_token),))
    at_start = caplog.text
    answer = post(served, form(world), f"{served.url}{PATH}", world.auth_token)

    assert "set PUBLIC_URL" in at_start
    assert answer.status_code == 401
    assert "webhook.refused provider=twilio reason=PUBLIC_URL is not set" in caplog.text
    for confidential in (world.auth_token, NUMBER, OTHER_NUMBER, NUMBER.lstrip("+")):
        assert confidential not in caplog.text


def test_without_a_token_everything_is_refused(serve: Serve) -> None:
    """An empty token signs for nobody."""
    served = serve(public_url=PUBLIC_URL)

    assert post(served, b"a=1", f"{PUBLIC_URL}{PATH}", "").status_code == 401


def test_storm_of_callbacks_is_applied_to_the_same_ends(messaging: Served, lasting_engine: Engine) -> None:
    """Lost to nobody, doubled and disordered, and parked until somebody says whose the messages are."""
    books, world = Books(lasting_engine), TwilioWorld(seed=4, auth_token="twilio-sandbox-token")
    now = datetime.now(UTC)
    sent = [world.send_message(at=now, outcome="delivered") for _ in range(10)]
    sent += [world.send_message(at=now, outcome="undelivered", error_code=30003) for _ in range(5)]
    report = world.deliver(sent, f"{messaging.url}{PATH}", signed_url=f"{PUBLIC_URL}{PATH}", weather=STORM)
    unknown = applying.apply(lasting_engine, inbox.claim(lasting_engine, "test", 1000))
    organization_id = books.organization()
    woken = route(books, organization_id, "sms_number", NUMBER)["woken_events"]
    done = applying.apply(lasting_engine, inbox.claim(lasting_engine, "test", 1000))

    assert set(report.final_statuses) == {"200"}
    assert unknown["parked"] == woken == done["done"] >= 30
    for one in sent:
        known = message(books, one.sid)
        assert (known["status"], known["error_code"]) == (one.outcome, one.error_code)
        assert known["organization_id"] == organization_id
    assert books.broken() == []


def test_subaccount_signs_with_its_own_token_and_its_messages_are_charged_to_its_organization(
    serve: Serve, lasting_engine: Engine
) -> None:
    """Its token stands behind the main one, which is enough to ask about its messages."""
    books, world = Books(lasting_engine), TwilioWorld(seed=5)
    subaccount, unknown = world.add_subaccount("its-own-token"), world.add_subaccount("not-known-here")
    organization_id = books.organization()
    price(books, organization_id, 20_000)
    route(books, organization_id, "twilio_account", subaccount.account_sid)
    served = serve(
        public_url=PUBLIC_URL,
        twilio_auth_token=f"{world.auth_token},{subaccount.account_sid}:{subaccount.auth_token}",
    )
    url, signed_url = f"{served.url}{PATH}", f"{PUBLIC_URL}{PATH}"
    sent = subaccount.send_message(at=datetime.now(UTC), num_segments=2)
    statuses = [
        *subaccount.deliver([sent], url, signed_url=signed_url).final_statuses,
        *unknown.deliver([unknown.send_message(at=datetime.now(UTC))], url, signed_url=signed_url).final_statuses,
    ]
    applying.apply(lasting_engine, inbox.claim(lasting_engine, "test", 1000))
    with running_app(twilio_app(world)) as port:
        settings = Settings(
            _env_file=None,
            twilio_base_url=f"http://127.0.0.1:{port}",
            twilio_account_sid=world.account_sid,
            twilio_auth_token=(SecretStr(world.auth_token),),
        )
        told = asyncio.run(ask(settings, message(books, sent.sid)))
    assert told is not None
    sms.settle(lasting_engine, sms.Answers([told]))

    assert statuses == ["200", "401"]
    assert [(row["idempotency_key"], row["amount_micros"]) for row in books.charges(organization_id)] == [
        (f"sms:{sent.sid}", 40_000)
    ]


def test_public_port_may_be_missing_in_what_is_signed(serve: Serve, lasting_engine: Engine) -> None:
    """A port of any number, as a reported delivery has it, and a query that is called in another order."""
    given = json.loads((PAYLOADS / "public-port-8443.json").read_text())
    served = serve(public_url=given["PUBLIC_URL"], twilio_auth_token=f"main,{given['form']['AccountSid']}:its")
    body = urlencode(given["form"]).encode()
    query = "b=2&a=1"

    for signed_url in given["signed_url"]:
        assert post(served, body, signed_url, "its").status_code == 200
        assert post(served, body, f"{signed_url}?{query}", "its", f"{PATH}?a=1&b=2").status_code == 200
        assert post(served, body, signed_url, "main").status_code == 401
    assert post(served, body, "https://billing.example.com:9443/webhooks/twilio", "its").status_code == 401


async def ask(settings: Settings, known: Row) -> ToldMessage | None:
    """What Twilio says of a message, asked with the main account's token."""
    async with open_twilio(settings) as client:
        return await fetch_message(client, known["account_sid"], known["sid"])
