"""Answers and logs tell nobody what calls are about, who called, or what the secrets are."""

import logging

import pytest
from sqlalchemy import Engine, text

from billing.database import transaction
from calltally.sandbox.signing import StripeSignature, VapiBearer
from tests.databases import Scratch
from tests.payloads import body
from tests.receiver.conftest import STRIPE_SECRET, VAPI_SECRET, Serve, send_stripe, send_vapi

NUMBER = "+15555550123"
WORDS = "Hi, can I move my appointment to Friday?"
CONFIDENTIAL = [NUMBER, NUMBER.lstrip("+"), WORDS, "appointment", STRIPE_SECRET, VAPI_SECRET, "org_id", "cus_Example"]
SAYINGS = {
    '{"received": true}',
    '{"error": "not JSON"}',
    '{"error": "signature refused"}',
    '{"error": "too large"}',
    '{"error": "try again later"}',
}


@pytest.fixture
def refusing_inbox(own_tables: Scratch, owner: Engine) -> None:
    """A database that refuses every delivery, and says in its error what it has refused."""
    with transaction(owner) as connection:
        connection.execute(
            text(
                "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE 'refused %', encode(new.body, 'escape')"
                " USING DETAIL = encode(new.body, 'escape'), ERRCODE = '23514';"
                " END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER tell BEFORE INSERT ON event_bodies FOR EACH ROW EXECUTE FUNCTION tell()")
        )


def send_all_kinds(serve: Serve) -> list[str]:
    """Genuine, forged, unreadable and too large; what is answered."""
    report, payment = body("vapi", "end-of-call-report"), body("stripe", "payment_intent.succeeded")
    with serve(webhook_max_bytes=10_000).client() as client:
        return [
            answer.text
            for answer in (
                send_vapi(client, report),
                send_stripe(client, payment),
                send_vapi(client, report, VapiBearer(VAPI_SECRET + "x")),
                send_vapi(client, report, VapiBearer(NUMBER)),
                send_stripe(client, payment, StripeSignature((STRIPE_SECRET + "x",))),
                client.post("/webhooks/stripe", content=payment, headers={"Stripe-Signature": STRIPE_SECRET}),
                send_vapi(client, report[:-5]),
                send_stripe(client, payment[:-5]),
                send_stripe(client, payment + b" " * 10_000),
            )
        ]


def assert_nothing_told(answers: list[str], log: str, printed: str) -> None:
    """No answer but the fixed ones, and nothing confidential in what is written anywhere."""
    assert set(answers) <= SAYINGS
    assert "webhook." in log
    for secret in CONFIDENTIAL:
        assert secret not in log
        assert secret not in printed


def listen(caplog: pytest.LogCaptureFixture) -> None:
    """Hear everything that the receiver, the server and the database layer have to say."""
    for name in ("billing", "uvicorn", "starlette", "asyncio", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, name)


def test_answers_and_logs_hold_nothing_confidential(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether a delivery is taken or refused."""
    listen(caplog)

    answers = send_all_kinds(serve)

    assert_nothing_told(answers, caplog.text, "".join(capfd.readouterr()))


def test_answers_and_logs_hold_nothing_confidential_when_the_database_tells(
    refusing_inbox: None,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An error of the database may quote what it refused; only its class is logged."""
    listen(caplog)

    answers = send_all_kinds(serve)

    assert '{"error": "try again later"}' in answers
    assert "webhook.not_stored count=1 error=ConstraintBroken" in caplog.text
    assert_nothing_told(answers, caplog.text, "".join(capfd.readouterr()))


def test_refusals_are_logged_with_provider_and_reason(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever rolls a secret wrongly finds out from the log."""
    send_all_kinds(serve)

    assert "webhook.refused provider=stripe reason=no signature in the Stripe-Signature header matches" in caplog.text
    assert "webhook.refused provider=vapi reason=the Authorization header holds no known bearer token" in caplog.text
    assert "webhook.unreadable provider=vapi bytes=" in caplog.text
