"""Questions to Stripe over HTTP: what is asked, and what each way of not answering means."""

import json
from datetime import UTC, datetime

import pytest

from billing.errors import BillingError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.payments import Question
from billing.process import NotConfigured
from billing.settings import get_settings
from billing.stripe_client import API_VERSION, REQUESTS, ask
from calltally.sandbox.faults import Fault
from calltally.sandbox.stripe_objects import Payment, invoice
from calltally.sandbox.wire import encode_json
from tests.payments.till import Till

AT = datetime(2026, 11, 30, tzinfo=UTC)


def test_each_kind_of_question_is_one_request(till: Till) -> None:
    """By payment or by id, in the forms that Stripe documents."""
    topup = till.stripe.pay_topup(Payment(5_000), at=AT)
    payment = topup.payment_intent_id
    till.stripe.bill(payment, invoice("in_1", total=5_000))
    refund = till.stripe.refund(topup, 100, at=AT)[0].envelope["data"]["object"]["id"]
    dispute = till.stripe.dispute(topup, 100, at=AT)[0].envelope["data"]["object"]["id"]

    answers = {
        kind: json.loads(ask(get_settings(), Question(kind, name)))  # type: ignore[arg-type]  # all of its kinds
        for kind, name in {
            "session_of": payment,
            "invoices_of": payment,
            "refunds_of": payment,
            "invoice": "in_1",
            "payment_intent": payment,
            "checkout.session": topup.session_id,
            "refund": refund,
            "charge": topup.charge_id,
            "dispute": dispute,
        }.items()
    }

    assert set(answers) == set(REQUESTS)
    assert answers["session_of"]["data"][0]["id"] == answers["checkout.session"]["id"] == topup.session_id
    assert answers["invoices_of"]["data"][0]["invoice"] == answers["invoice"]
    assert [answers[kind]["id"] for kind in ("payment_intent", "refund", "dispute")] == [payment, refund, dispute]
    assert answers["refunds_of"]["data"] == [answers["refund"]]
    sessions, invoice_payments = till.stripe.asked[:2]
    assert sessions == f"/v1/checkout/sessions?payment_intent={payment}&limit=1"
    assert invoice_payments == (
        f"/v1/invoice_payments?payment[type]=payment_intent&payment[payment_intent]={payment}&limit=1"
        "&expand[0]=data.invoice"
    )


def test_what_stripe_does_not_have_is_an_answer(till: Till) -> None:
    """An empty list, or null for an id that is not there, even a strange one."""
    assert json.loads(ask(get_settings(), Question("session_of", "pi_none")))["data"] == []
    assert ask(get_settings(), Question("payment_intent", "pi_none")) == b"null"
    assert ask(get_settings(), Question("payment_intent", "../../v1/events")) == b"null"


def test_what_the_key_does_not_know_waits(till: Till) -> None:
    """A key of another account: nothing is taken for none of ours, and nothing dies."""
    acme = till.wallet()
    topup = till.stripe.pay_topup(Payment(5_000, metadata={"org_id": str(acme)}), at=AT)
    refund, charge = till.stripe.refund(topup, 1_000, at=AT)
    refund.envelope["data"]["object"] |= {"payment_intent": None, "charge": "ch_other"}
    gone = Fault(status=404, body=encode_json({"error": {"type": "invalid_request_error"}}))
    till.stripe.faults.add(gone, 3)
    till.tell_of([topup.events[1], charge, refund])

    assert till.ends() == [
        ("parked", f"cannot_ask_stripe:{topup.payment_intent_id}"),
        ("parked", f"payment_not_credited:{topup.payment_intent_id}"),
        ("parked", "payment_not_credited:ch_other"),
    ]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ProviderRefused),
        (403, ProviderRefused),
        (400, ProviderRefused),
        (429, RateLimited),
        (409, ProviderUnavailable),
        (500, ProviderUnavailable),
        (503, ProviderUnavailable),
    ],
)
def test_refusals_are_told_from_what_may_pass(till: Till, status: int, error: type[BillingError]) -> None:
    """One request each: the library's own retries are off, since tasks retry. Stripe's words stay out of it."""
    body = encode_json({"error": {"type": "api_error", "message": "about cus_4711"}})
    till.stripe.faults.add(Fault(status=status, body=body, content_type="application/json"), 1)

    with pytest.raises(error) as refusal:
        ask(get_settings(), Question("session_of", "pi_1"))

    assert "4711" not in str(refusal.value)
    assert ask(get_settings(), Question("payment_intent", "pi_1")) == b"null"


def test_connection_that_breaks_may_pass(till: Till) -> None:
    """As does a Stripe that is not there."""
    till.stripe.faults.add(Fault(status=200, body=b"{", breaks_connection=True), 1)

    with pytest.raises(ProviderUnavailable):
        ask(get_settings(), Question("session_of", "pi_1"))


def test_without_a_key_nobody_is_asked(keyless: Till) -> None:
    """Whoever asks all the same is told why not."""
    with pytest.raises(NotConfigured, match="STRIPE_API_KEY"):
        ask(get_settings(), Question("session_of", "pi_1"))


def test_version_is_the_one_that_the_tests_hold() -> None:
    """What is asked for comes in the same form as the newest events."""
    assert API_VERSION == "2026-10-28.endive"
