"""Reports from the field, by their numbers: what other people's billing did wrong, and what comes out here."""

from itertools import permutations
from typing import Any

import pytest

from calltally.sandbox.stripe_objects import invoice
from tests.payments.till import Till, report

BOTH_ORDERS = [pytest.param(False, id="session first"), pytest.param(True, id="payment first")]


def in_order(events: list[dict[str, Any]], reverse: bool) -> list[dict[str, Any]]:
    """As told, or the other way round."""
    return events[::-1] if reverse else events


@pytest.mark.parametrize("reverse", BOTH_ORDERS)
@pytest.mark.parametrize("fixture", ["till", "keyless"])
def test_01_tax_is_no_credit(request: pytest.FixtureRequest, fixture: str, reverse: bool) -> None:
    """120.00 with 20.00 of tax are 100.00 of credit, whichever event comes first and whoever can be asked."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    events = report("01-topup-with-tax", org_id=str(organization_id))
    till.stripe.keep(events[0]["data"]["object"])

    till.tell(*in_order(events, reverse))

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 100_000_000
    assert (till.own("tax"), till.own("stripe")) == (20_000_000, -120_000_000)
    payment = till.payment(events[1]["data"]["object"]["id"])
    assert (payment["charged_micros"], payment["tax_micros"]) == (120_000_000, 20_000_000)
    assert till.books.broken() == []


def test_01_payment_whose_session_is_not_told_is_never_credited_whole(keyless: Till) -> None:
    """It says that it comes from Checkout, and nobody can ask: it waits, with what to do about it."""
    organization_id = keyless.wallet()
    _, payment = report("01-topup-with-tax", org_id=str(organization_id))

    keyless.tell(payment)

    assert keyless.ends() == [("parked", f"cannot_ask_stripe:{payment['data']['object']['id']}")]
    assert keyless.books.balance(organization_id) == 0


@pytest.mark.parametrize("fixture", ["till", "keyless"])
@pytest.mark.parametrize("place", [0, 1], ids=["invoice", "order_reference"])
@pytest.mark.parametrize("purpose", ["auto_recharge", "topup", "checkout_topup", None])
def test_04_topup_paid_by_an_invoice_is_a_topup(
    request: pytest.FixtureRequest, fixture: str, place: int, purpose: str | None
) -> None:
    """Our organization and a purpose of ours win over an invoice, in every API version."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    event = report("04-auto-topup-through-invoice", org_id=str(organization_id))[place]
    event["data"]["object"]["metadata"]["purpose"] = purpose or ""

    till.tell(event)

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 50_000_000


@pytest.mark.parametrize(
    "says", [{}, {"total_excluding_tax": None, "total_taxes": [{"amount": 400}, {"amount": 600}]}]
)
def test_04_tax_of_the_invoice_is_no_credit(till: Till, says: dict[str, Any]) -> None:
    """An invoice says what of it is tax, as a Checkout Session does, in one way or the other."""
    organization_id = till.wallet()
    for place in (0, 1):
        event = report("04-auto-topup-through-invoice", org_id=str(organization_id))[place]
        paid = event["data"]["object"]
        invoice_id = paid.get("invoice") or paid["payment_details"]["order_reference"]
        till.stripe.bill(paid["id"], {**invoice(invoice_id, total=5_000, tax=1_000), **says})
        till.tell(event)

    assert till.books.balance(organization_id) == 80_000_000
    assert till.own("tax") == 20_000_000


@pytest.mark.parametrize("fixture", ["till", "keyless"])
@pytest.mark.parametrize("tells_the_invoice", [True, False])
@pytest.mark.parametrize("suffices", ["true", "false"])
def test_05_subscription_of_a_linked_customer_is_not_credited(
    request: pytest.FixtureRequest,
    fixture: str,
    tells_the_invoice: bool,
    suffices: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names nobody: Stripe is asked, or it waits; also where a payment does not say that it pays an invoice."""
    monkeypatch.setenv("STRIPE_CREDIT_LINKED_CUSTOMERS", suffices)
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet("cus_linked")
    events = report("05-subscription-renewal-basil", customer="cus_linked")
    paid = events[0]["data"]["object"]
    till.stripe.bill(paid["id"], invoice(paid["payment_details"]["order_reference"], total=9_900))
    if not tells_the_invoice:
        paid["payment_details"] = None

    till.tell(*events)

    assert till.books.balance(organization_id) == 0
    state, reason = till.ends()[0]
    if fixture == "till":
        assert (state, reason) == ("skipped", "invoice")
    else:
        assert state == "parked"


@pytest.mark.parametrize("twin_first", [True, False])
def test_06_thin_event_is_refetched(till: Till, twin_first: bool) -> None:
    """What it is about is asked for, by type and id; its snapshot event adds nothing, and needs no asking."""
    organization_id = till.wallet()
    (thin,) = report("06-thin-event")
    intent = {
        "id": thin["related_object"]["id"],
        "object": "payment_intent",
        "amount_received": 2_500,
        "currency": "usd",
        "metadata": {"org_id": str(organization_id), "purpose": "auto_recharge"},
    }
    till.stripe.keep(intent)
    twin = {
        "id": thin["snapshot_event"],
        "type": "payment_intent.succeeded",
        "created": 1_796_072_222,
        "livemode": False,
        "data": {"object": intent},
    }

    till.tell(*((twin, thin) if twin_first else (thin, twin)))

    assert till.books.balance(organization_id) == 25_000_000
    assert till.states() == ({"done", "skipped"} if twin_first else {"done"})
    assert till.stripe.asked == ([] if twin_first else [f"/v1/payment_intents/{intent['id']}"])


def test_06_thin_event_waits_where_nobody_can_ask(keyless: Till) -> None:
    """It is told, not passed over."""
    (thin,) = report("06-thin-event")

    keyless.tell(thin)

    assert keyless.ends() == [("parked", f"cannot_ask_stripe:{thin['related_object']['id']}")]


@pytest.mark.parametrize("order", list(permutations(range(2))))
@pytest.mark.parametrize("shape", [0, 2], ids=["presentment_details", "currency_conversion"])
@pytest.mark.parametrize("fixture", ["till", "keyless"])
@pytest.mark.parametrize("together", [True, False])
def test_08_adaptive_pricing_is_credited_in_the_wallets_currency_once(
    request: pytest.FixtureRequest, fixture: str, shape: int, order: tuple[int, ...], together: bool
) -> None:
    """In both shapes of the API and both orders, and neither event stays behind."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    events = report("08-adaptive-pricing", org_id=str(organization_id))[shape : shape + 2]
    new_shape = report("08-adaptive-pricing", org_id=str(organization_id))[0]["data"]["object"]
    till.stripe.keep({**new_shape, "payment_intent": events[1]["data"]["object"]["id"]})
    told = [events[place] for place in order]

    if together:
        till.tell_together(*told)
    else:
        till.tell(*told)

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 100_000_000
    assert till.books.broken() == []


def test_12_event_of_another_context_is_parked(till: Till) -> None:
    """As one of a connected account; thin or not."""
    (event,) = report("12-organization-context", org_id=str(till.wallet()))
    thin = {**report("06-thin-event")[0], "context": "acct_OtherAccount0001"}

    till.tell(event, thin)

    assert till.ends() == [("parked", "connected_account")] * 2
    assert till.stripe.asked == []


@pytest.mark.parametrize("customer", ["cus_linked", None])
def test_14_recurring_topup_named_by_its_subscription_is_credited(till: Till, customer: str | None) -> None:
    """The payment names nobody, its invoice's subscription does."""
    organization_id = till.wallet(customer)
    told = {"customer": customer} if customer else {}
    events = report("14-recurring-topup-metadata-on-subscription", org_id=str(organization_id), **told)
    paid, bill = (event["data"]["object"] for event in events)
    till.stripe.bill(
        paid["id"],
        invoice(paid["payment_details"]["order_reference"], total=2_500, parent=bill["parent"]),
    )

    till.tell(*events)

    assert till.ends()[0] == ("done", None)
    assert till.books.balance(organization_id) == 25_000_000


def test_14_recurring_topup_goes_on_once_somebody_says_whose_it_is(keyless: Till) -> None:
    """Where nobody can ask it waits, and a command ends that."""
    organization_id = keyless.wallet()
    paid, _ = report("14-recurring-topup-metadata-on-subscription", org_id=str(organization_id))
    payment_id = paid["data"]["object"]["id"]
    keyless.tell(paid)
    waited = keyless.ends()

    woken = keyless.books.value(
        "SELECT assign_payment(:payment, :id, 'the subscription is theirs')", payment=payment_id, id=organization_id
    )
    keyless.work()

    assert waited == [("parked", f"cannot_ask_stripe:{payment_id}")]
    assert (woken, keyless.states()) == (1, {"done"})
    assert keyless.books.balance(organization_id) == 25_000_000


@pytest.mark.parametrize("reverse", BOTH_ORDERS)
@pytest.mark.parametrize("fixture", ["till", "keyless"])
@pytest.mark.parametrize(("received", "micros"), [(6_000, 50_000_000), (13_200, 110_000_000), (1, 8_333)])
def test_what_arrived_is_credited_and_not_what_was_asked_for(
    request: pytest.FixtureRequest, fixture: str, reverse: bool, received: int, micros: int
) -> None:
    """Manual capture of less, and tips: the same share of what arrived, whichever event is first; nothing is dead."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    events = report("01-topup-with-tax", org_id=str(organization_id))
    events[1]["data"]["object"]["amount_received"] = received
    till.stripe.keep(events[0]["data"]["object"])

    till.tell(*in_order(events, reverse))

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == micros
    assert till.own("stripe") == -received * 10_000
    assert till.own("tax") == received * 10_000 - micros
    assert till.books.broken() == []


@pytest.mark.parametrize("reverse", BOTH_ORDERS)
@pytest.mark.parametrize("shape", [0, 2], ids=["presentment_details", "currency_conversion"])
def test_08_wallet_in_the_payers_currency_gets_what_the_payer_saw(till: Till, shape: int, reverse: bool) -> None:
    """The other side of the same sale: 92.50 EUR, not 100.00 USD exchanged by anybody."""
    organization_id = till.wallet(currency="EUR")
    events = report("08-adaptive-pricing", org_id=str(organization_id))[shape : shape + 2]
    new_shape = report("08-adaptive-pricing", org_id=str(organization_id))[0]["data"]["object"]
    till.stripe.keep({**new_shape, "payment_intent": events[1]["data"]["object"]["id"]})

    till.tell(*in_order(events, reverse))

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 92_500_000
    assert till.books.broken() == []
