"""Skipping hides nothing: what has no meaning, yet names an organization and money, waits until that is booked."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from calltally.sandbox.stripe_objects import Payment
from tests.payments.till import Till

AT = datetime(2026, 11, 30, tzinfo=UTC)


def event(event_type: str, **told: Any) -> dict[str, Any]:
    """An event of an endpoint that is sent everything."""
    return {
        "id": f"evt_{event_type}_{told.get('id')}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(AT.timestamp()),
        "livemode": False,
        "type": event_type,
        "data": {"object": told},
    }


def charge(payment_id: str | None, organization_id: UUID | str, **told: Any) -> dict[str, Any]:
    """A charge that succeeded and bears an organization's id."""
    known = {"id": "ch_1", "object": "charge", "status": "succeeded", "paid": True, "amount": 5_000}
    named = {"payment_intent": payment_id, "metadata": {"org_id": str(organization_id)}}
    return event("charge.succeeded", **{**known, **named, **told})


def test_money_that_nothing_else_tells_of_waits_for_a_person(till: Till) -> None:
    """Credited by hand under its key, the event goes on by itself."""
    acme = till.wallet()
    till.tell(charge("pi_lost", acme))
    assert till.ends() == [("parked", "skipped_money:pi_lost")]

    till.books.credit(acme, 50_000_000, "topup:pi_lost")
    till.work()

    assert till.ends() == [("skipped", "charge.succeeded is not used for billing")]
    assert till.books.balance(acme) == 50_000_000


@pytest.mark.parametrize("first", [True, False])
def test_event_beside_the_payments_own_hides_nothing(till: Till, first: bool) -> None:
    """In any order, and told together with it."""
    acme = till.wallet()
    topup = till.stripe.pay_topup(Payment(5_000, metadata={"org_id": str(acme)}), at=AT)
    beside = charge(topup.payment_intent_id, acme)
    till.tell(*[beside] * first)
    till.tell_of(topup.events)
    till.tell(*[beside] * (not first))

    assert till.states() == {"done", "skipped"}
    assert till.books.balance(acme) == 50_000_000


def test_invoice_is_known_by_the_payment_that_paid_it(till: Till) -> None:
    """Newer versions name no payment on an invoice; what was sold by a payment names the invoice."""
    acme = till.wallet()
    paid = {"id": "in_1", "object": "invoice", "status": "paid", "amount_paid": 5_000}
    till.tell(event("invoice.paid", **paid, metadata={"org_id": str(acme)}))
    assert till.ends() == [("parked", "skipped_money:in_1")]

    sale = {"id": "in_1", "currency": "USD", "shown_currency": "USD", "tax_micros": 0, "fee_micros": 0}
    sums = dict.fromkeys(["total_micros", "shown_micros", "quoted_micros"], 50_000_000)
    told = {"payment_id": "pi_1", "reference": str(acme), "amount_micros": 50_000_000, "currency": "USD"}
    till.books.rows(
        "SELECT * FROM credit_payments(jsonb_build_array(CAST(:told AS jsonb)"
        " || jsonb_build_object('sale', CAST(:sale AS jsonb), 'event_at', now(), 'reference_kind', 'metadata')))",
        told=_json(told),
        sale=_json(sale | sums),
    )
    till.work()

    assert till.ends() == [("skipped", "invoice.paid is not used for billing")]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"metadata": {}}, id="names nobody"),
        pytest.param({"metadata": {"org_id": "11111111-1111-1111-1111-111111111111"}}, id="names nobody here"),
        pytest.param({"status": "failed", "paid": False}, id="did not succeed"),
        pytest.param({"amount": 0}, id="of nothing"),
        pytest.param({"captured": False}, id="is only authorized"),
        pytest.param({"object": "payout"}, id="is no payment"),
        pytest.param(
            {"metadata": {"org_id": "{acme}", "purpose": "setup_fee"}}, id="says that it is for something else"
        ),
    ],
)
def test_what_is_no_money_of_ours_is_skipped(till: Till, told: dict[str, Any]) -> None:
    """Nobody is bothered."""
    acme = str(till.wallet())
    if "metadata" in told:
        told = {**told, "metadata": {key: text.format(acme=acme) for key, text in told["metadata"].items()}}
    till.tell(charge("pi_1", acme, **told))

    assert till.states() == {"skipped"}


@pytest.mark.parametrize("content", [{}, {"id": 7}, {"id": "ch_1", "metadata": "x"}])
def test_event_of_another_form_is_skipped(till: Till, content: dict[str, Any]) -> None:
    """What has no meaning may be anything."""
    till.tell(event("charge.succeeded", **content))

    assert till.states() == {"skipped"}


def test_session_whose_payment_is_an_invoices_waits(till: Till) -> None:
    """A subscription's Checkout Session has no payment of its own; its name stands nowhere else."""
    acme = till.wallet()
    session = {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "subscription",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 5_000,
        "currency": "usd",
        "payment_intent": None,
        "invoice": "in_1",
        "metadata": {"org_id": str(acme)},
    }
    till.tell(event("checkout.session.completed", **session))

    assert till.ends() == [("parked", "skipped_money:in_1")]


def _json(content: Any) -> str:
    return json.dumps(content)
