"""Refunds and disputes from the field, by their numbers, in every order in which their events may come."""

import itertools
import random
from typing import Any

import pytest

from billing.database import transaction
from billing.taking_back import moved_by_hand, record_movements
from tests.books import moved
from tests.payments.till import Till, report

CASES = {
    # what is left of 100 dollars, and what Stripe took beyond the payment
    "03-dispute-larger-than-payment": (0, 1_240_000),
    "03d-then-won": (100_000_000, 0),
    "07-refund-told-by-charge-refunded-only": (0, 0),
    "15a-reinstated-but-lost-other-settlement-currency": (335_135, 0),
    "15d-partially-refunded-reinstated-part-then-won": (60_000_000, 0),
    "16b-adjustment-up-then-won": (100_000_000, -240_000),
}
Events = list[dict[str, Any]]


def keep_refunds(till: Till, events: Events) -> None:
    """Let Stripe know the refunds that the events tell of."""
    for event in events:
        if event["data"]["object"]["object"] == "refund":
            till.stripe.keep(event["data"]["object"])


@pytest.mark.parametrize("name", CASES)
def test_case_comes_to_what_it_should_in_every_order(till: Till, name: str) -> None:
    """As it was sent, and in other orders, with every event twice."""
    left, beyond = CASES[name]
    orders = list(itertools.permutations(range(len(report(name)))))
    for order in [orders[0], *random.Random(1).sample(orders[1:], k=min(5, len(orders) - 1))]:
        till.scratch.empty()
        organization_id = till.wallet()
        events = report(name, org_id=str(organization_id))
        keep_refunds(till, events)
        again = [{**event, "id": f"{event['id']}_again"} for event in events]
        till.tell(*(events[place] for place in order), *(again[place] for place in order))

        assert till.books.balance(organization_id) == left, order
        assert sum(row["micros"] for row in excess(till)) == beyond, order
        assert till.states() == {"done"}, order
        assert till.books.broken() == []


def excess(till: Till) -> list[dict[str, Any]]:
    """What of the refunds and disputes of each payment is the reseller's."""
    return till.books.rows("SELECT excess_booked_micros AS micros FROM payment_reversals")


@pytest.mark.parametrize("reverse", [False, True])
def test_01_refund_of_half_takes_half_of_the_credit(till: Till, reverse: bool) -> None:
    """120.00 with 20.00 of tax: 60.00 back are 50.00 from the wallet and 10.00 from the tax, told in any order."""
    organization_id = till.wallet()
    events = report("01-topup-with-tax", org_id=str(organization_id))
    till.stripe.keep(events[0]["data"]["object"])
    (refund,) = report("48-refund-of-something-else")[1:]
    refund["data"]["object"] |= {"amount": 6_000, "payment_intent": events[1]["data"]["object"]["id"]}
    told = [*events, refund]
    till.tell(*(told[::-1] if reverse else told))

    assert till.books.balance(organization_id) == 50_000_000
    assert till.own("tax") == 10_000_000
    assert till.states() == {"done"}
    assert till.books.broken() == []


def test_16b_each_balance_transaction_is_a_movement_of_its_own(till: Till) -> None:
    """Its transfer bears its id."""
    organization_id = till.wallet()
    till.tell(*report("16b-adjustment-up-then-won", org_id=str(organization_id)))

    assert [row["idempotency_key"] for row in till.books.transfers(organization_id)][1:] == [
        "dispute:txn_3905ebed63a8f44dbc323daa",
        "dispute:txn_4eb980d46be9ec147f47d74f",
        "dispute:txn_b44e97b30f699d9f685727d4",
    ]


def test_03d_by_hand_in_between_is_known_to_the_automation(till: Till) -> None:
    """Somebody books what Stripe took, and what it gave back, before Stripe's own events are applied."""
    organization_id = till.wallet()
    payment, withdrawn, reinstated = report("03d-then-won", org_id=str(organization_id))
    payment_id, dispute_id = payment["data"]["object"]["id"], withdrawn["data"]["object"]["id"]
    first, second = (entry["id"] for entry in reinstated["data"]["object"]["balance_transactions"])
    till.tell(payment)
    till.books.tell(moved(payment_id, first, -101_240_000, dispute_id))
    till.tell(withdrawn)
    taken = till.books.balance(organization_id)
    till.books.tell(moved(payment_id, second, 101_240_000, dispute_id))
    till.tell(reinstated)

    assert (taken, till.books.balance(organization_id)) == (0, 100_000_000)
    assert till.states() == {"done"}
    assert till.books.broken() == []


def test_07_stripe_is_asked_which_refunds_there_are(till: Till) -> None:
    """The sum says that money is missing; nothing else may ever tell of it."""
    organization_id = till.wallet()
    events = report("07-refund-told-by-charge-refunded-only", org_id=str(organization_id))
    keep_refunds(till, events)
    till.tell(*events[:2])

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 0


def test_07_where_nobody_can_ask_it_waits_for_the_refund(keyless: Till) -> None:
    """Which goes on by itself when another event tells of that refund."""
    organization_id = keyless.wallet()
    payment, charge, refund = report("07-refund-told-by-charge-refunded-only", org_id=str(organization_id))
    payment["data"]["object"]["metadata"]["purpose"] = "topup"
    keyless.tell(payment, charge)
    waiting = keyless.ends()[1]
    keyless.tell(refund)

    assert waiting == ("parked", f"refunds_not_told:{payment['data']['object']['id']}")
    assert keyless.states() == {"done"}
    assert keyless.books.balance(organization_id) == 0


@pytest.mark.parametrize("names_charge_alone", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("fixture", ["till", "keyless"])
def test_48_refund_of_something_else_is_skipped_as_its_payment_was(
    request: pytest.FixtureRequest, fixture: str, reverse: bool, names_charge_alone: bool
) -> None:
    """In whichever order they come; nothing stays parked that only a person ends."""
    till: Till = request.getfixturevalue(fixture)
    events = report("48-refund-of-something-else")
    charge_id, payment_id = (events[1]["data"]["object"][name] for name in ("charge", "payment_intent"))
    till.stripe.keep({"id": charge_id, "object": "charge", "payment_intent": payment_id})
    if names_charge_alone:
        events[1]["data"]["object"]["payment_intent"] = None
    till.tell(*(events[::-1] if reverse else events))

    assert till.states() == {"skipped"}


@pytest.mark.parametrize("fixture", ["till", "keyless"])
@pytest.mark.parametrize("reverse", [False, True])
def test_dispute_that_names_only_the_charge_finds_its_payment(
    request: pytest.FixtureRequest, fixture: str, reverse: bool
) -> None:
    """By the payment's own event, or by asking Stripe."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    events = report("03d-then-won", org_id=str(organization_id))
    events[0]["data"]["object"]["metadata"]["purpose"] = "topup"
    charge_id, payment_id = (events[1]["data"]["object"][name] for name in ("charge", "payment_intent"))
    till.stripe.keep({"id": charge_id, "object": "charge", "payment_intent": payment_id})
    for event in events[1:]:
        event["data"]["object"]["payment_intent"] = None
    till.tell(*(events[::-1] if reverse else events))

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 100_000_000
    assert len(till.books.transfers(organization_id)) == 3


def test_48_refund_of_a_payment_that_somebody_dismissed_is_skipped(keyless: Till) -> None:
    """Nobody has to dismiss both; were the payment credited after all, its refund would be booked."""
    payment, refund = report("48-refund-of-something-else")
    payment["data"]["object"]["metadata"]["purpose"] = "topup"
    keyless.tell(payment, refund)
    payment_id = payment["data"]["object"]["id"]
    assert keyless.ends() == [
        ("parked", f"unknown_organization:{payment_id}"),
        ("parked", f"payment_not_credited:{payment_id}"),
    ]
    keyless.books.rows("SELECT dismiss_events(ARRAY(SELECT min(id) FROM events), 'of the shop')")
    keyless.work()

    assert keyless.ends()[1] == ("skipped", "payment dismissed: of the shop")
    organization_id = keyless.wallet()
    keyless.books.credit(organization_id, 42_000_000, f"topup:{payment_id}")
    assert keyless.books.balance(organization_id) == 0


@pytest.mark.parametrize("kind", ["refund", "dispute"])
@pytest.mark.parametrize("by_hand_first", [True, False])
def test_what_names_only_the_charge_is_the_same_by_hand(keyless: Till, by_hand_first: bool, kind: str) -> None:
    """Where nobody can ask whose charge it is, a person says it by booking it; Stripe's event goes on by itself."""
    organization_id = keyless.wallet()
    keyless.books.credit(organization_id, 42_000_000, "topup:pi_1")
    told = report("48-refund-of-something-else")[1] if kind == "refund" else report("03d-then-won")[1]
    found = told["data"]["object"]
    found |= {"payment_intent": None, "amount": 1_000, "currency": "usd"}
    found.pop("balance_transactions", None)
    step = "" if kind == "refund" else ":withdrawn"
    by_hand = moved("pi_1", found["id"] + step, -10_000_000, found["id"] if step else None)
    if by_hand_first:
        keyless.books.tell(by_hand)
        keyless.tell(told)
    else:
        keyless.tell(told)
        assert keyless.ends() == [("parked", f"payment_not_credited:{found['charge']}")]
        keyless.books.tell(by_hand)
        keyless.work()

    assert keyless.states() == {"done"}
    assert keyless.books.balance(organization_id) == 32_000_000
    assert keyless.books.broken() == []


def test_refund_of_a_bank_payment_is_booked_by_hand(till: Till) -> None:
    """Their ids begin otherwise."""
    organization_id = till.wallet()
    till.books.credit(organization_id, 42_000_000, "topup:pi_1")
    with transaction(till.scratch.engine) as connection:
        answers = record_movements(connection, [moved_by_hand(connection, "pi_1", "pyr_1", 42_000_000)])

    assert answers == {"pyr_1": ("booked", None)}
    assert till.books.balance(organization_id) == 0


@pytest.mark.parametrize("fixture", ["till", "keyless"])
@pytest.mark.parametrize("shape", [0, 2], ids=["presentment_details", "currency_conversion"])
@pytest.mark.parametrize("told_in", ["payer's", "wallet's"])
@pytest.mark.parametrize("kind", ["refund", "dispute"])
@pytest.mark.parametrize("reverse", [True, False])
def test_08_refund_and_dispute_are_exchanged_as_the_sale_was(
    request: pytest.FixtureRequest, fixture: str, shape: int, told_in: str, kind: str, reverse: bool
) -> None:
    """Half of what the payer saw is half of the credit, in either currency, and however it is settled."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    events = report("08-adaptive-pricing", org_id=str(organization_id))[shape : shape + 2]
    payment_id = events[0]["data"]["object"]["payment_intent"]
    if kind == "refund":
        told = report("48-refund-of-something-else")[1]
    else:
        told = report("03d-then-won")[1]
        entry = told["data"]["object"]["balance_transactions"][0]
        entry |= {"amount": -4_123, "currency": "gbp"}
    amount, currency = (4_625, "eur") if told_in == "payer's" else (5_000, "usd")
    told["data"]["object"] |= {"payment_intent": payment_id, "amount": amount, "currency": currency}
    till.stripe.keep(events[0]["data"]["object"])
    till.tell(*[*events, told][:: -1 if reverse else 1])

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == 50_000_000
    assert till.books.broken() == []
