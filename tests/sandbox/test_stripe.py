"""Stripe's events, signatures and event list, checked with the official library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
import stripe

from calltally.sandbox.deliveries import Weather, plan_deliveries
from calltally.sandbox.sending import STRIPE_RETRIES, Target, send_now
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.signing import StripeSignature, forged_stripe_signature
from calltally.sandbox.stripe import DEFAULT_SIGNING_SECRET, RefundOutcome
from calltally.sandbox.stripe_objects import Payment

from .conftest import NOW, Endpoint

PAYMENT = Payment(2_500, "usd", "cus_demo", "org-1", {"org_id": "org-1"})


@pytest.fixture
def client(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[stripe.StripeClient]:
    """The official client, pointed at the sandbox."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    http_client = stripe.RequestsClient(timeout=5)
    yield stripe.StripeClient(
        sandbox.stripe.api_key,
        base_addresses={"api": sandbox.stripe_api_base},
        http_client=http_client,
    )
    http_client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def api(sandbox: RunningSandbox) -> Iterator[httpx.Client]:
    """A plain client with the right key."""
    headers = {"Authorization": f"Bearer {sandbox.stripe.api_key}"}
    with httpx.Client(base_url=sandbox.stripe_api_base, headers=headers, trust_env=False) as plain:
        yield plain


def test_paid_topup_tells_of_one_payment_twice(sandbox: RunningSandbox) -> None:
    """Checkout Session and PaymentIntent name the same `pi_…`, amount and references."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW)

    session, intent = (event.envelope["data"]["object"] for event in topup.events)
    assert [each.type for each in topup.events] == ["checkout.session.completed", "payment_intent.succeeded"]
    assert topup.payment_intent_id == session["payment_intent"] == intent["id"]
    assert (
        session["amount_total"],
        session["payment_status"],
        session["client_reference_id"],
    ) == (2_500, "paid", "org-1")
    assert (
        intent["amount_received"],
        intent["currency"],
        intent["customer"],
        intent["metadata"],
    ) == (2_500, "usd", "cus_demo", {"org_id": "org-1"})


def test_delayed_topup_completes_unpaid_and_succeeds_later(sandbox: RunningSandbox) -> None:
    """A bank transfer is `unpaid` at first, then two events tell of the money."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW, settlement="later")

    assert [event.type for event in topup.events] == [
        "checkout.session.completed",
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]
    assert topup.events[0].envelope["data"]["object"]["payment_status"] == "unpaid"
    assert topup.events[2].envelope["data"]["object"]["payment_status"] == "paid"
    assert topup.events[0].created + 3 * 86_400 == topup.events[2].created


def test_refused_topup_receives_nothing(sandbox: RunningSandbox) -> None:
    """A delayed payment that fails leaves the PaymentIntent without money."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW, settlement="refused_later")

    assert [event.type for event in topup.events[1:]] == [
        "payment_intent.payment_failed",
        "checkout.session.async_payment_failed",
    ]
    assert topup.events[1].envelope["data"]["object"]["amount_received"] == 0


def test_refunds_are_cumulative_on_the_charge_and_limited(sandbox: RunningSandbox) -> None:
    """The charge sums the refunds up, and more than the payment cannot be given back."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW)
    sandbox.stripe.refund(topup, 1_000, at=NOW)

    refund, charge = sandbox.stripe.refund(topup, 1_500, at=NOW)

    assert refund.envelope["data"]["object"]["amount"] == 1_500
    assert (
        charge.envelope["data"]["object"]["amount_refunded"],
        charge.envelope["data"]["object"]["refunded"],
    ) == (2_500, True)
    with pytest.raises(ValueError, match="exceed"):
        sandbox.stripe.refund(topup, 1, at=NOW)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("at_once", ["succeeded"]),
        ("later", ["pending", "succeeded"]),
        ("fails", ["succeeded", "failed", "failed"]),
        ("never", ["pending", "failed", "failed"]),
    ],
)
def test_refund_tells_of_each_of_its_statuses(
    sandbox: RunningSandbox, outcome: RefundOutcome, told: list[str]
) -> None:
    """Always the same refund; one that failed may be made again."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW)

    events = sandbox.stripe.refund(topup, 2_500, at=NOW, outcome=outcome)

    refunds = [event.envelope["data"]["object"] for event in events if event.type.startswith("refund.")]
    assert [refund["status"] for refund in refunds] == told
    assert len({refund["id"] for refund in refunds}) == 1
    if told[-1] == "failed":
        sandbox.stripe.refund(topup, 2_500, at=NOW)


def test_dispute_moves_funds_by_balance_transactions(sandbox: RunningSandbox) -> None:
    """Opened without any, withdrawn with one, won with two; the fee is beside the amount."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW)

    events = sandbox.stripe.dispute(topup, 2_500, at=NOW, reinstated_minor=2_000)

    moved = {
        event.type.rpartition(".")[2]: [
            (entry["amount"], entry["fee"]) for entry in event.envelope["data"]["object"]["balance_transactions"]
        ]
        for event in events
    }
    both = [(-2_500, 1_500), (2_000, 0)]
    assert moved == {"created": [], "funds_withdrawn": both[:1], "closed": both, "funds_reinstated": both}


def test_delivered_event_is_accepted_by_the_official_verification(
    sandbox: RunningSandbox, endpoint: Endpoint
) -> None:
    """Signature and envelope are what the library expects, for either secret of a rotation."""
    events = sandbox.stripe.pay_topup(PAYMENT, at=NOW).events
    plan = plan_deliveries(sandbox.stripe.messages(events))
    send_now(plan.deliveries, Target(endpoint.url, StripeSignature(("whsec_new", "whsec_old"))))

    for headers, body in endpoint.received:
        for secret in ("whsec_new", "whsec_old"):
            assert stripe.WebhookSignature.verify_header(
                body.decode(), headers["stripe-signature"], secret, tolerance=300
            )
        event = json.loads(body)
        assert (
            event["object"],
            event["api_version"],
            event["livemode"],
            event["pending_webhooks"],
        ) == ("event", "2026-10-28.endive", False, 1)
        assert {"id", "idempotency_key"} == set(event["request"])


def test_forged_event_is_refused_by_the_official_verification(sandbox: RunningSandbox, endpoint: Endpoint) -> None:
    """A forged signature is well formed and wrong."""
    events = sandbox.stripe.pay_topup(PAYMENT, at=NOW).events
    plan = plan_deliveries(sandbox.stripe.messages(events))
    send_now(plan.deliveries[:1], Target(endpoint.url, forged_stripe_signature()))

    headers, body = endpoint.received[0]
    with pytest.raises(stripe.SignatureVerificationError, match="No signatures found"):
        stripe.WebhookSignature.verify_header(
            body.decode(), headers["stripe-signature"], DEFAULT_SIGNING_SECRET, tolerance=300
        )


def test_retried_event_is_signed_afresh(sandbox: RunningSandbox, endpoint: Endpoint) -> None:
    """Every attempt has its own timestamp and signature over the same bytes."""
    endpoint.answers = [500, 503]
    seconds = iter(range(100, 200))
    plan = plan_deliveries(sandbox.stripe.messages(sandbox.stripe.pay_topup(PAYMENT, at=NOW).events[:1]))
    target = Target(endpoint.url, StripeSignature((DEFAULT_SIGNING_SECRET,)), STRIPE_RETRIES)

    report = send_now(plan.deliveries, target, clock=lambda: float(next(seconds)))

    signatures = [headers["stripe-signature"] for headers, _ in endpoint.received]
    assert report.outcomes[0].statuses == (500, 503, 200)
    assert [signature.partition(",")[0] for signature in signatures] == ["t=100", "t=101", "t=102"]
    assert len(set(endpoint.bodies)) == 1


def test_duplicated_events_keep_their_ids(sandbox: RunningSandbox, endpoint: Endpoint) -> None:
    """With every event doubled the endpoint sees each id twice."""
    topup = sandbox.stripe.pay_topup(PAYMENT, at=NOW)

    delivered = sandbox.sandbox.deliver_events(
        topup.events, url=endpoint.url, weather=Weather(duplicate_rate=1.0, disorder_rate=1.0)
    )

    ids = sorted(json.loads(body)["id"] for body in endpoint.bodies)
    assert sorted([event.id for event in topup.events] * 2) == ids
    assert delivered.plan.duplicates == 2


def test_event_list_through_the_official_client_pages_newest_first(
    sandbox: RunningSandbox, client: stripe.StripeClient
) -> None:
    """Automatic paging walks all events once, newest first."""
    for minute in range(6):
        sandbox.stripe.pay_topup(PAYMENT, at=NOW + timedelta(minutes=minute))

    listed = [event.id for event in client.v1.events.list({"limit": 5}).auto_paging_iter()]

    assert [event.id for event in sandbox.stripe.events()] == listed
    assert len(set(listed)) == 12


def test_event_list_before_an_event_walks_chronologically(
    sandbox: RunningSandbox, client: stripe.StripeClient
) -> None:
    """With `ending_before` the official client yields what came after that event, oldest first."""
    first, *later = [
        event
        for minute in range(5)
        for event in sandbox.stripe.pay_topup(PAYMENT, at=NOW + timedelta(minutes=minute)).events
    ]

    page = client.v1.events.list({"limit": 2, "ending_before": first.id})

    assert [event.id for event in later] == [event.id for event in page.auto_paging_iter()]


def test_event_list_filters_by_time_type_and_delivery(
    sandbox: RunningSandbox, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    """`created`, `type`, `types` and `delivery_success` each narrow the list."""
    early = sandbox.stripe.pay_topup(PAYMENT, at=NOW)
    late = sandbox.stripe.pay_topup(PAYMENT, at=NOW + timedelta(hours=1))
    sandbox.sandbox.deliver_events(early.events, url=endpoint.url)
    created = late.events[0].created

    def ids(**params: object) -> set[str]:
        return {event.id for event in client.v1.events.list(params).data}  # type: ignore[arg-type]

    session, intent = late.events
    assert {session.id, intent.id} == ids(created={"gte": created})
    assert set() == ids(created={"gt": created})
    assert {event.id for event in early.events} == ids(created={"lt": created})
    assert {early.events[0].id, session.id} == ids(type="checkout.session.*")
    assert {early.events[1].id, intent.id} == ids(types=["payment_intent.succeeded", "charge.refunded"])
    assert {session.id, intent.id} == ids(delivery_success=False)
    assert {event.id for event in early.events} == ids(delivery_success=True)


def test_single_event_shows_how_many_webhooks_are_pending(
    sandbox: RunningSandbox, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    """`pending_webhooks` falls to 0 once the endpoint has accepted it, the data stay as they were."""
    event = sandbox.stripe.pay_topup(PAYMENT, at=NOW).events[0]
    before = client.v1.events.retrieve(event.id)
    sandbox.sandbox.deliver_events([event], url=endpoint.url)
    after = client.v1.events.retrieve(event.id)

    assert (before.pending_webhooks, after.pending_webhooks) == (1, 0)
    assert before.data.to_dict() == after.data.to_dict()


def test_event_list_is_an_envelope_of_ten(sandbox: RunningSandbox, api: httpx.Client) -> None:
    """The default page has 10 events and says that there are more."""
    for _ in range(6):
        sandbox.stripe.pay_topup(PAYMENT, at=NOW)

    page = api.get("/v1/events").json()

    assert {"object", "data", "has_more", "url"} == set(page)
    assert (
        page["object"],
        len(page["data"]),
        page["has_more"],
        page["url"],
    ) == ("list", 10, True, "/v1/events")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("created[gte]=today", "created[gte]"),
        ("types[]=a&type=b", "types"),
        ("&".join(f"types[]={number}" for number in range(21)), "types"),
        ("page=2", "page"),
        ("starting_after=evt_unknown", "starting_after"),
    ],
)
def test_event_list_with_a_bad_parameter_names_it(api: httpx.Client, query: str, param: str) -> None:
    """Stripe's error shape says which parameter is wrong."""
    response = api.get(f"/v1/events?{query}")

    assert response.status_code == 400
    assert ("invalid_request_error", param) == (
        response.json()["error"]["type"],
        response.json()["error"]["param"],
    )


def test_api_key_is_accepted_as_bearer_or_user_name_and_otherwise_refused(
    sandbox: RunningSandbox, api: httpx.Client
) -> None:
    """Both of Stripe's ways to authenticate work, a wrong or missing key answers 401."""
    key = sandbox.stripe.api_key
    url = f"{sandbox.stripe_api_base}/v1/events"
    with httpx.Client(trust_env=False) as anonymous:
        statuses = [
            anonymous.get(url, auth=(key, "")).status_code,
            anonymous.get(url, headers={"Authorization": f"Bearer {key}"}).status_code,
            anonymous.get(url, auth=("sk_test_wrong", "")).status_code,
            anonymous.get(url).status_code,
        ]

    assert statuses == [200, 200, 401, 401]


def test_unknown_event_answers_404(api: httpx.Client) -> None:
    """The code says that the resource is missing."""
    response = api.get("/v1/events/evt_unknown")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "resource_missing")
