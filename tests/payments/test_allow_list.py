"""Who is credited: whom a payment names in our key; all else is asked about, or waits for a person."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from billing.errors import IdempotencyConflict, InvalidAmount, UnknownOrganization
from billing.settings import get_settings
from calltally.sandbox.stripe_objects import Payment, invoice
from tests.payments.till import Till

AT = datetime(2026, 11, 30, tzinfo=UTC)
CUSTOMER = "cus_linked"


def pay(till: Till, *, only: str = "", **fields: Any) -> str:
    """Pay 50.00; both events are told, or only those whose type begins so."""
    topup = till.stripe.pay_topup(Payment(5_000, **fields), at=AT)
    till.tell_of(event for event in topup.events if event.type.startswith(only))
    return topup.payment_intent_id


def reasons(till: Till) -> set[str | None]:
    """Why events wait, without the payment."""
    return {reason and reason.partition(":")[0] for _, reason in till.ends()}


@pytest.fixture
def acme(till: Till) -> UUID:
    """An organization that is linked with a customer."""
    return till.wallet(CUSTOMER)


@pytest.mark.parametrize("only", ["", "payment_intent", "checkout"])
@pytest.mark.parametrize("customer", [CUSTOMER, None])
def test_metadata_names_the_payer_whoever_pays(till: Till, acme: UUID, only: str, customer: str | None) -> None:
    """The key is ours alone, so a guest's payment counts as well."""
    pay(till, only=only, metadata={"org_id": str(acme)}, customer=customer, payment_link="plink_1")

    assert till.books.balance(acme) == 50_000_000
    assert till.states() == {"done"}


@pytest.mark.parametrize("only", ["", "payment_intent", "checkout"])
@pytest.mark.parametrize(
    ("link", "customer", "is_proved"),
    [
        ("plink_1", CUSTOMER, True),
        ("plink_1", None, False),
        (None, CUSTOMER, True),
        (None, None, False),
    ],
)
def test_text_that_a_payer_may_have_written_is_no_evidence(
    till: Till, acme: UUID, only: str, link: str | None, customer: str | None, is_proved: bool
) -> None:
    """`client_reference_id` of a payment link, or of a guest who names somebody with a customer."""
    pay(till, only=only, client_reference_id=str(acme), customer=customer, payment_link=link)

    assert till.books.balance(acme) == (50_000_000 if is_proved else 0)
    if not is_proved:
        assert till.states() == {"parked"}
        assert "unproven_payer" in reasons(till)


def test_text_of_a_session_that_we_made_names_who_has_no_customer(till: Till) -> None:
    """The shop wrote it; there is nobody else that it could contradict."""
    organization_id = till.wallet()
    pay(till, client_reference_id=str(organization_id))
    pay(till, client_reference_id=str(organization_id), payment_link="plink_1")

    assert till.books.balance(organization_id) == 50_000_000
    assert "unproven_payer" in reasons(till)


def test_text_is_believed_where_a_setting_says_so(till: Till, acme: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of links and guests alike."""
    monkeypatch.setenv("STRIPE_TRUST_CLIENT_REFERENCE", "true")
    get_settings.cache_clear()
    pay(till, client_reference_id=str(acme), payment_link="plink_1")
    pay(till, client_reference_id=str(acme))

    assert till.books.balance(acme) == 100_000_000
    assert till.states() == {"done"}


@pytest.mark.parametrize("only", ["", "payment_intent", "checkout"])
@pytest.mark.parametrize("suffices", [True, False])
def test_payment_of_a_linked_customer_that_names_nobody(
    till: Till, acme: UUID, only: str, suffices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credited only where a setting allows it, once Stripe says that it is of no invoice."""
    monkeypatch.setenv("STRIPE_CREDIT_LINKED_CUSTOMERS", str(suffices).lower())
    get_settings.cache_clear()

    pay(till, only=only, customer=CUSTOMER)

    assert till.books.balance(acme) == (50_000_000 if suffices else 0)
    assert reasons(till) == ({None} if suffices else {"unnamed_payment"})


def test_payment_of_a_linked_customer_is_not_credited_unasked(keyless: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might be of a subscription, and nobody can tell."""
    monkeypatch.setenv("STRIPE_CREDIT_LINKED_CUSTOMERS", "true")
    get_settings.cache_clear()
    organization_id = keyless.wallet(CUSTOMER)

    pay(keyless, only="payment_intent", customer=CUSTOMER)

    assert keyless.books.balance(organization_id) == 0
    assert reasons(keyless) == {"unnamed_payment"}


def test_invoice_names_an_organization_or_is_other_business(till: Till, acme: UUID) -> None:
    """By its own metadata; with another purpose it is skipped as such."""
    told: list[tuple[dict[str, str], str | None]] = [
        ({"org_id": str(acme)}, None),
        ({"org_id": str(acme), "purpose": "plan"}, "other_purpose"),
        ({}, "invoice"),
    ]
    for place, (metadata, _) in enumerate(told):
        topup = till.stripe.pay_topup(Payment(5_000, customer=CUSTOMER, invoice=f"in_{place}"), at=AT)
        till.stripe.bill(topup.payment_intent_id, invoice(f"in_{place}", total=5_000, metadata=metadata))
        till.tell_of(topup.events[1:])

    assert [reason for _, reason in till.ends()] == [reason for _, reason in told]
    assert till.books.balance(acme) == 50_000_000


@pytest.mark.parametrize("only", ["", "payment_intent", "checkout"])
def test_assigned_payment_is_credited_with_what_was_sold(till: Till, acme: UUID, only: str) -> None:
    """A person says whose it is; how much, Stripe says: 40.00 of 50.00 with 10.00 of tax."""
    payment_id = pay(till, only=only, customer="cus_foreign", metadata={"org_id": str(acme)}, tax_minor=1_000)
    waited = reasons(till)

    till.books.value("SELECT assign_payment(:pi, :id, 'a new card')", pi=payment_id, id=acme)
    till.work()

    assert waited == {"customer_mismatch"}
    assert till.states() == {"done"}
    assert till.books.balance(acme) == 40_000_000


def test_assigned_before_it_is_told(till: Till, acme: UUID) -> None:
    """What is said once counts for what comes later, too."""
    topup = till.stripe.pay_topup(Payment(5_000), at=AT)
    woken = till.books.value("SELECT assign_payment(:pi, :id, 'by telephone')", pi=topup.payment_intent_id, id=acme)
    till.tell_of(topup.events)

    assert woken == 0
    assert till.books.balance(acme) == 50_000_000


def test_payment_is_assigned_anew_until_it_is_credited(till: Till, acme: UUID) -> None:
    """After that it would have to be moved by hand."""
    other = till.wallet("cus_other")
    assign = "SELECT assign_payment('pi_1', :id, :reason)"
    till.books.value(assign, id=other, reason="by mistake")
    till.books.value(assign, id=acme, reason="looked again")
    till.books.credit(acme, 1, "topup:pi_1")
    till.books.value(assign, id=acme, reason="once more")

    with pytest.raises(IdempotencyConflict):
        till.books.value(assign, id=other, reason="too late")
    with pytest.raises(InvalidAmount):
        till.books.value(assign, id=acme, reason="")
    with pytest.raises(UnknownOrganization):
        till.books.value(assign, id=UUID(int=9), reason="nobody")


@pytest.mark.parametrize(("percent", "micros"), [("0", 119_000_000), ("19", 100_000_000), ("8.875", 109_299_656)])
def test_tax_that_stripe_cannot_tell_is_a_setting(
    till: Till, acme: UUID, monkeypatch: pytest.MonkeyPatch, percent: str, micros: int
) -> None:
    """Of a recharge there is neither Session nor invoice; by default it is taken for whole. Nothing is asked."""
    monkeypatch.setenv("STRIPE_TAX_PERCENT", percent)
    get_settings.cache_clear()
    topup = till.stripe.pay_topup(Payment(11_900, metadata={"org_id": str(acme), "purpose": "auto_recharge"}), at=AT)
    till.tell_of(topup.events[1:])

    assert till.books.balance(acme) == micros
    assert till.own("tax") == 119_000_000 - micros
    assert till.stripe.asked == []


def test_events_of_one_batch_ask_nothing(till: Till, acme: UUID) -> None:
    """A burst of payments whose Sessions are told with them is no burst of requests."""
    topups = [till.stripe.pay_topup(Payment(5_000, metadata={"org_id": str(acme)}), at=AT) for _ in range(50)]
    events = [event for topup in topups for event in topup.events[::-1]]

    till.tell_together(*(message.body for message in till.stripe.messages(events)))

    assert till.books.balance(acme) == 50 * 50_000_000
    assert till.stripe.asked == []


@pytest.mark.parametrize(
    ("fixture", "only", "by_hand", "state"),
    [
        ("keyless", "checkout", 40, "done"),
        ("keyless", "checkout", 50, "done"),
        ("keyless", "checkout", 45, "dead"),
        ("keyless", "checkout", 60, "dead"),
        ("keyless", "payment_intent", 50, "done"),
        ("keyless", "payment_intent", 60, "dead"),
        ("till", "payment_intent", 40, "done"),
        ("till", "payment_intent", 60, "dead"),
    ],
)
def test_credit_by_hand_stays_and_fits_if_it_is_what_was_sold_or_paid(
    request: pytest.FixtureRequest, fixture: str, only: str, by_hand: int, state: str
) -> None:
    """Whoever credits the net or the gross has done what the event tells of; another amount is told as a mistake."""
    till: Till = request.getfixturevalue(fixture)
    organization_id = till.wallet()
    topup = till.stripe.pay_topup(Payment(5_000, metadata={"org_id": str(organization_id)}, tax_minor=1_000), at=AT)
    till.books.credit(organization_id, by_hand * 1_000_000, f"topup:{topup.payment_intent_id}")
    till.tell_of(event for event in topup.events if event.type.startswith(only))

    assert till.states() == {state}
    assert till.books.balance(organization_id) == by_hand * 1_000_000
    assert till.stripe.asked == []


@pytest.mark.parametrize("received", [6_000, 13_200])
def test_after_a_credit_by_hand_both_events_are_learned_of(till: Till, received: int) -> None:
    """What was sold, then what arrived of it: each books its own difference, and neither event dies."""
    organization_id = till.wallet()
    paid = Payment(12_000, metadata={"org_id": str(organization_id)}, tax_minor=2_000, captured_minor=received)
    topup = till.stripe.pay_topup(paid, at=AT)
    till.books.credit(organization_id, 100_000_000, f"topup:{topup.payment_intent_id}")
    till.tell_of(topup.events)

    assert till.states() == {"done"}
    assert till.books.balance(organization_id) == received * 10_000 // 12 * 10
    assert till.own("stripe") == -received * 10_000
    assert till.books.broken() == []


@pytest.mark.parametrize("lists_the_invoice", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_invoice_that_a_checkout_session_made_is_whose_the_session_says(
    till: Till, names: bool, lists_the_invoice: bool
) -> None:
    """With `invoice_creation`, Stripe copies our key to neither the payment nor the invoice."""
    organization_id = till.wallet()
    topup = till.stripe.pay_topup(Payment(5_000, invoice="in_1", tax_minor=1_000), at=AT)
    session, payment = (told.envelope["data"]["object"] for told in topup.events)
    session |= {"invoice": "in_1", "metadata": {"org_id": str(organization_id)} if names else {}}
    till.stripe.bill(topup.payment_intent_id, invoice("in_1", total=5_000, tax=1_000))
    if not lists_the_invoice:
        payment["payment_details"] = None
    till.tell_of(topup.events[1:])

    assert till.books.balance(organization_id) == (40_000_000 if names else 0)
    assert till.states() == {"done" if names else "skipped" if lists_the_invoice else "parked"}


@pytest.mark.parametrize("sold_by", ["session", "invoice"])
@pytest.mark.parametrize("says_topup", [True, False])
def test_what_is_sold_for_something_else_is_no_credit(till: Till, says_topup: bool, sold_by: str) -> None:
    """A payment that names us and no purpose is for what its Session or invoice says; its own word goes first."""
    organization_id = till.wallet()
    ours = {"org_id": str(organization_id)}
    topup = till.stripe.pay_topup(Payment(5_000, invoice="in_1" if sold_by == "invoice" else None), at=AT)
    session, payment = (told.envelope["data"]["object"] for told in topup.events)
    other = {**ours, "purpose": "setup_fee"}
    payment["metadata"] = {**ours, "purpose": "topup"} if says_topup else ours
    if sold_by == "session":
        session["metadata"] = other
    till.stripe.bill(topup.payment_intent_id, invoice("in_1", total=5_000, metadata=other))
    till.tell_of(topup.events[1:])

    assert till.books.balance(organization_id) == (50_000_000 if says_topup else 0)
    assert till.ends() == [("done", None) if says_topup else ("skipped", "other_purpose")]


def test_payment_that_was_skipped_as_an_invoices_is_credited_once_assigned(till: Till) -> None:
    """A subscription that only its Checkout Session calls a top-up: both events end, and its refunds count."""
    organization_id = till.wallet()
    topup = till.stripe.pay_topup(Payment(5_000, invoice="in_1", tax_minor=1_000), at=AT)
    session = topup.events[0].envelope["data"]["object"]
    session |= {"payment_intent": None, "invoice": "in_1", "metadata": {"org_id": str(organization_id)}}
    till.stripe.bill(topup.payment_intent_id, invoice("in_1", total=5_000, tax=1_000))
    till.tell_of([*topup.events, *till.stripe.refund(topup, 2_500, at=AT)])
    waited = till.ends()

    till.books.value("SELECT assign_payment(:pi, :id, 'theirs')", pi=topup.payment_intent_id, id=organization_id)
    till.books.rows("SELECT replay_events(ARRAY(SELECT id FROM events WHERE reason = 'invoice'))")
    till.work()

    assert waited[:2] == [("parked", "skipped_money:in_1"), ("skipped", "invoice")]
    assert [state for state, _ in till.ends()[:2]] == ["skipped", "done"]
    assert till.books.balance(organization_id) == 20_000_000
    assert till.books.broken() == []
