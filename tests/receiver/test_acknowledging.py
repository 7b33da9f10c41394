"""A webhook is stored before it is answered, and once, however often it comes."""

import base64
import hmac
import time
from datetime import timedelta

import httpx
import pytest

from calltally.sandbox.calls import Route
from calltally.sandbox.deliveries import Weather
from calltally.sandbox.signing import StripeSignature, VapiBearer, VapiHmac, VapiSecret, VapiSigner
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.world import Sandbox
from tests.books import Books
from tests.payloads import body, names
from tests.receiver.conftest import (
    STRIPE,
    STRIPE_SECRET,
    VAPI_SECRET,
    Serve,
    send_stripe,
    send_vapi,
    signed,
    stripe_event,
    vapi_message,
)
from tests.receiver.serving import Served

RECEIVED = b'{"received": true}'


@pytest.mark.parametrize("provider", ["stripe", "vapi"])
def test_webhook_is_visible_to_others_when_the_answer_arrives(
    provider: str, client: httpx.Client, books: Books
) -> None:
    """Each body of the provider in turn: no answer before the commit, and the bytes as they came."""
    send = {"stripe": send_stripe, "vapi": send_vapi}[provider]
    for name in names(provider):
        raw = body(provider, name)

        answer = send(client, raw)

        assert (answer.status_code, answer.content) == (200, RECEIVED)
        assert (
            books.value(
                "SELECT count(*) FROM events JOIN event_bodies ON event_id = id"
                " WHERE body = :raw AND state = 'waiting'",
                raw=raw,
            )
            == 1
        )


def test_repeated_delivery_is_counted_and_answered_alike(client: httpx.Client, books: Books) -> None:
    """Each attempt has a signature of its own."""
    raw = stripe_event("evt_1")

    answers = [
        client.post("/webhooks/stripe", content=raw, headers=signed(raw, STRIPE, time.time() - age))
        for age in (60, 30, 0)
    ]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, RECEIVED)] * 3
    (event,) = books.rows("SELECT deliveries, last_received_at > received_at AS later FROM events")
    assert event == {"deliveries": 3, "later": True}


def test_events_that_share_an_id_across_providers_are_two(client: httpx.Client, books: Books) -> None:
    """A key belongs to its provider."""
    send_stripe(client, stripe_event("shared:hang"))
    send_vapi(client, vapi_message("shared", "hang"))

    assert books.value("SELECT count(*) FROM events WHERE delivery_key = 'shared:hang'") == 2


def test_signed_json_without_an_identity_is_stored_for_somebody_to_look_at(
    client: httpx.Client, books: Books
) -> None:
    """It comes from the provider, so it is not thrown away."""
    assert send_stripe(client, b"[1, 2]").status_code == 200
    assert send_vapi(client, b'{"message": {"type": "end-of-call-report"}}').status_code == 200

    stored = books.rows("SELECT type FROM events WHERE delivery_key LIKE 'sha256:%' ORDER BY id")
    assert [event["type"] for event in stored] == ["unknown", "end-of-call-report"]


def test_ids_that_postgres_could_not_hold_are_stored(client: httpx.Client, books: Books) -> None:
    """NUL, and texts longer than an index takes."""
    for event_id in ("a\\u0000b", "x" * 10_000):
        assert send_stripe(client, stripe_event(event_id)).status_code == 200
        assert send_vapi(client, vapi_message(event_id)).status_code == 200

    assert books.value("SELECT count(*) FROM events") == 4


def test_transcript_cut_in_the_middle_of_an_emoji_is_stored(client: httpx.Client, books: Books) -> None:
    """The half that is left must not cost the report."""
    raw = vapi_message("call-1").replace(b'"type"', b'"transcript":"bye \\ud83d","type"')

    assert send_vapi(client, raw).status_code == 200
    assert books.value("SELECT body FROM event_bodies") == raw


@pytest.mark.parametrize(
    ("auth", "signer"),
    [
        ("bearer", VapiBearer(VAPI_SECRET)),
        ("secret", VapiSecret(VAPI_SECRET)),
        ("hmac", VapiHmac(VAPI_SECRET)),
        ("hmac", VapiHmac(VAPI_SECRET, "ms")),
    ],
)
def test_vapi_is_let_in_by_the_form_that_is_set_and_by_no_other(
    auth: str, signer: VapiSigner, serve: Serve, books: Books
) -> None:
    """As the sandbox signs in each of them."""
    with serve(vapi_webhook_auth=auth).client() as client:
        forms: tuple[VapiSigner, ...] = (VapiBearer(VAPI_SECRET), VapiSecret(VAPI_SECRET), VapiHmac(VAPI_SECRET))

        assert send_vapi(client, vapi_message("call-1"), signer).status_code == 200
        for other in forms:
            if other.kind != auth:
                assert send_vapi(client, vapi_message("call-2"), other).status_code == 401

    assert books.value("SELECT count(*) FROM events") == 1


def test_vapi_is_let_in_by_an_hmac_plan_of_its_own(serve: Serve) -> None:
    """A plan known from production: another header, no timestamp."""
    served = serve(
        vapi_webhook_auth="hmac",
        vapi_hmac_signature_header="X-Vapi-Signature",
        vapi_hmac_payload_format="{body}",
        vapi_hmac_algorithm="sha512",
        vapi_hmac_signature_encoding="base64",
        vapi_hmac_signature_prefix="sha512=",
    )
    raw = vapi_message("call-1")
    digest = hmac.new(VAPI_SECRET.encode(), raw, "sha512").digest()
    good = {"x-vapi-signature": "sha512=" + base64.b64encode(digest).decode()}
    with served.client() as client:
        assert client.post("/webhooks/vapi", content=raw, headers=good).status_code == 200
        assert client.post("/webhooks/vapi", content=raw + b" ", headers=good).status_code == 401
        assert send_vapi(client, raw, VapiHmac(VAPI_SECRET)).status_code == 401


def test_both_secrets_are_valid_while_rotating_and_the_old_one_no_longer_after(serve: Serve) -> None:
    """First both sides know both, then only the new one is left."""
    old, new = "whsec_old", "whsec_new"
    raw = stripe_event("evt_1")
    with serve(stripe_webhook_secrets=f"{new},{old}").client() as during:
        for secrets in ((old,), (new,), (old, new)):
            assert send_stripe(during, raw, StripeSignature(secrets)).status_code == 200
        assert send_stripe(during, raw, StripeSignature((STRIPE_SECRET,))).status_code == 401
    with serve(stripe_webhook_secrets=new).client() as after:
        assert send_stripe(after, raw, StripeSignature((old, new))).status_code == 200
        assert send_stripe(after, raw, StripeSignature((old,))).status_code == 401


@pytest.mark.parametrize("auth", ["bearer", "secret", "hmac"])
def test_without_a_secret_everybody_is_refused(auth: str, serve: Serve, books: Books) -> None:
    """Even who signs with an empty one."""
    signers: list[VapiSigner] = [VapiSecret(""), VapiHmac(""), VapiBearer("x"), VapiSecret("x"), VapiHmac("x")]
    with serve(stripe_webhook_secrets=(), vapi_webhook_secrets=(), vapi_webhook_auth=auth).client() as client:
        for secrets in ((), ("",), ("x",)):
            assert send_stripe(client, stripe_event("evt_1"), StripeSignature(secrets)).status_code == 401
        for signer in signers:
            assert send_vapi(client, vapi_message("call-1"), signer).status_code == 401

    assert books.value("SELECT count(*) FROM events") == 0


def test_a_day_of_the_sandbox_is_stored_once_each_through_duplicates_and_disorder(
    served: Served, books: Books
) -> None:
    """Calls and payments as the providers would send them, many at a time."""
    sandbox = Sandbox(
        seed=3,
        vapi_signer=VapiBearer(VAPI_SECRET),
        stripe_secrets=(STRIPE_SECRET,),
        vapi_target=f"{served.url}/webhooks/vapi",
        stripe_target=f"{served.url}/webhooks/stripe",
    )
    now = sandbox.clock()
    day = Traffic(60, (Route(assistant_id="assistant-1"),), now - timedelta(hours=12), now)
    weather = Weather(duplicate_rate=0.3)

    calls = sandbox.deliver_calls(sandbox.vapi.place_calls(day), weather=weather)
    events = [event for _ in range(10) for event in sandbox.stripe.pay_topup(Payment(2_500), at=now).events]
    payments = sandbox.deliver_events(events, weather=weather)

    for delivered in (calls, payments):
        assert delivered.report.final_statuses == {"200": len(delivered.plan.deliveries)}
    sent = [
        (each.message.subject_id, each.message.body) for each in (*calls.plan.deliveries, *payments.plan.deliveries)
    ]
    assert books.value("SELECT sum(deliveries)::integer FROM events") == len(sent)
    assert books.value("SELECT count(*) FROM events") == len(set(sent)) < len(sent)
