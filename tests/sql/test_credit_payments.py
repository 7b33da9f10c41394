"""Payments find their organization, or wait until they can."""

import json
from typing import Any

import pytest

from billing.errors import IdempotencyConflict, NameTaken
from tests.books import Books, Row


def credit(books: Books, *payments: dict[str, Any]) -> list[Row]:
    """What credit_payments answers."""
    return books.rows("SELECT * FROM credit_payments(CAST(:payments AS jsonb))", payments=json.dumps(payments))


def payment(
    payment_id: str, reference: object = None, customer_id: str | None = None, **facts: Any
) -> dict[str, Any]:
    """A payment of 5 dollars."""
    return {
        "payment_id": payment_id,
        "reference": reference and str(reference),
        "customer_id": customer_id,
        "amount_micros": 5_000_000,
        "currency": "USD",
        "event_at": "2026-07-01T00:00:00Z",
        **facts,
    }


def parked_event(books: Books, tag: str, reason: str) -> None:
    """An event in the inbox that waits for an obstacle to be removed."""
    books.value(
        "SELECT accept_events(ARRAY['stripe'], ARRAY[:tag], ARRAY['checkout'], ARRAY[CAST('{}' AS bytea)])", tag=tag
    )
    claimed = books.rows("SELECT * FROM claim_events('test', 1000, '1 minute')")
    books.value(
        "SELECT finish_events(:token, :ids, :states, :reasons)",
        token=claimed[0]["claim_token"],
        ids=[row["id"] for row in claimed],
        states=["parked"] * len(claimed),
        reasons=[reason] * len(claimed),
    )


def state_of(books: Books, delivery_key: str) -> str:
    """The state of an event."""
    state: str = books.value("SELECT state FROM events WHERE delivery_key = :key", key=delivery_key)
    return state


def test_payment_by_reference_is_credited_once(books: Books) -> None:
    """Whichever event of a payment comes second is a duplicate."""
    organization_id = books.organization()

    answers = credit(books, payment("pi_1", organization_id), payment("pi_1", organization_id))

    assert [answer["outcome"] for answer in answers] == ["credited", "duplicate"]
    assert books.balance(organization_id) == 5_000_000
    assert books.transfers(organization_id)[0]["idempotency_key"] == "topup:pi_1"


def test_payment_by_customer_is_credited(books: Books) -> None:
    """The Stripe customer alone is enough."""
    organization_id = books.organization()
    books.value("SELECT link_customer(:id, 'cus_1')", id=organization_id)

    assert credit(books, payment("pi_1", customer_id="cus_1"))[0]["outcome"] == "credited"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "unknown_organization"),
        ({"reference": "not-an-id"}, "unknown_organization"),
        ({"reference": "00000000-0000-0000-0000-000000000007"}, "unknown_organization"),
        ({"customer_id": "cus_unknown"}, "unknown_organization"),
        ({"reference": "first", "customer_id": "cus_2"}, "customer_mismatch"),
        ({"reference": "first", "customer_id": "cus_unknown"}, "customer_mismatch"),
        ({"reference": "first", "currency": "EUR"}, "currency_mismatch"),
    ],
)
def test_payment_that_nobody_can_claim_is_parked(books: Books, facts: dict[str, Any], reason: str) -> None:
    """Unknown, contradictory or foreign money waits with its reason, and moves nothing."""
    first, second = books.organization(), books.organization()
    books.value("SELECT link_customer(:id, 'cus_1')", id=first)
    books.value("SELECT link_customer(:id, 'cus_2')", id=second)
    if facts.get("reference") == "first":
        facts = {**facts, "reference": first}

    answer = credit(books, payment("pi_1", event_id=7, **facts))

    assert answer == [{"payment_id": "pi_1", "outcome": "parked", "reason": f"{reason}:pi_1", "event_id": 7}]
    assert books.value("SELECT count(*) FROM transfers") == 0


def test_payment_of_other_amount_under_same_id_conflicts(books: Books) -> None:
    """One payment has one amount."""
    organization_id = books.organization()
    credit(books, payment("pi_1", organization_id))

    with pytest.raises(IdempotencyConflict):
        credit(books, payment("pi_1", organization_id, amount_micros=1))


@pytest.mark.parametrize("reason", ["unknown_organization", "customer_mismatch", "currency_mismatch"])
def test_credit_wakes_the_other_event_of_its_payment_and_no_other(books: Books, reason: str) -> None:
    """The one that did not say whose payment it is came first; it is not left parked when the other one says so."""
    parked_event(books, "evt_1", f"{reason}:pi_1")
    parked_event(books, "evt_2", f"{reason}:pi_12")

    credit(books, payment("pi_1", books.organization()))

    assert [state_of(books, key) for key in ("evt_1", "evt_2")] == ["waiting", "parked"]


@pytest.mark.parametrize("reason", ["unknown_organization", "unknown_organization:pi_7", "customer_mismatch:pi_7"])
def test_linked_customer_wakes_parked_events(books: Books, reason: str) -> None:
    """Once the customer is known, what waited for it goes on."""
    parked_event(books, "evt_1", reason)

    assert books.value("SELECT link_customer(:id, 'cus_1')", id=books.organization()) == 1
    assert state_of(books, "evt_1") == "waiting"


def test_organization_created_with_customer_wakes_parked_events(books: Books) -> None:
    """A new organization may be the one that an event waited for."""
    parked_event(books, "evt_1", "unknown_organization")

    books.value("SELECT create_organization('New', 'a@example.com', p_stripe_customer_id => 'cus_1')")

    assert state_of(books, "evt_1") == "waiting"


def test_route_wakes_parked_events(books: Books) -> None:
    """A route explains calls and messages that waited for an organization; payments and all else stay in place."""
    parked_event(books, "evt_1", "unknown_organization")
    parked_event(books, "evt_2", "currency_mismatch")
    parked_event(books, "evt_3", "unknown_organization:pi_1")

    assert books.route(books.organization(), "a-1")["woken_events"] == 1
    assert [state_of(books, key) for key in ("evt_1", "evt_2", "evt_3")] == ["waiting", "parked", "parked"]


def test_organization_of_taken_name_is_refused(books: Books) -> None:
    """Names are how people find organizations, so they are unique."""
    books.organization("Acme")

    with pytest.raises(NameTaken):
        books.organization("Acme")


def test_payment_with_strange_reference_and_known_customer_is_parked(books: Books) -> None:
    """A reference that looks like one of ours and is not means that somebody else's payment may have come here."""
    books.value("SELECT create_organization('Payer', 'a@example.com', p_stripe_customer_id => 'cus_1')")

    strange = credit(books, payment("pi_1", "00000000-0000-4000-8000-000000000000", "cus_1"))
    cart = credit(books, payment("pi_2", "cart 17", "cus_1"))

    assert (strange[0]["outcome"], strange[0]["reason"]) == ("parked", "customer_mismatch:pi_1")
    assert cart[0]["outcome"] == "credited"


def test_payment_whose_other_event_was_credited_needs_no_payer(books: Books) -> None:
    """Of two events of a payment one may not say whose it is; it is done with the other, unless amounts differ."""
    organization_id = books.organization()
    credit(books, payment("pi_1", organization_id))

    nameless = credit(books, payment("pi_1"))
    larger = credit(books, payment("pi_1", amount_micros=6_000_000))

    assert nameless[0]["outcome"] == "duplicate"
    assert larger[0]["outcome"] == "parked"
    assert books.balance(organization_id) == 5_000_000
