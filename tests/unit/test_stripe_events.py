"""What Stripe's events mean for the books."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.errors import UnreadablePayload
from billing.events import MEANINGS, Effect, Park, RecordReversals, Skip, interpret
from billing.payments import CreditPayment, Sale
from tests.payloads import body, content, encode, names

ORGANIZATION = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
CREDIT = CreditPayment(
    payment_id="pi_Example00000000000000001",
    reference=ORGANIZATION,
    customer_id="cus_Example0000001",
    event_at=datetime(2026, 11, 3, 14, 0, tzinfo=UTC),
    amount_micros=50_000_000,
    currency="USD",
    obstacle="cannot_ask_stripe",
)
SALE = Sale(
    id="cs_test_Example0000000000000000000000000001",
    currency="USD",
    total_micros=50_000_000,
    shown_currency="USD",
    shown_micros=50_000_000,
    quoted_micros=50_000_000,
    tax_micros=0,
    fee_micros=0,
    discount_micros=0,
)
SOLD = replace(CREDIT, amount_micros=None, currency=None, obstacle=None, sale=SALE, is_one_off=True)
CREDITING = {
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "payment_intent.succeeded",
}


def credit(event_type: str) -> CreditPayment:
    """What an event as it stands in its file tells: a payment that came from Checkout waits until somebody asks."""
    return CREDIT if event_type == INTENT else SOLD


CHARGE = "ch_Example00000000000000001"
REVERSING = {
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.refunded",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
}
SESSION = "checkout.session.completed"
INTENT = "payment_intent.succeeded"


def meaning(event_type: str, **changes: Any) -> Effect:
    """The effect of an event whose object has other values; `...` removes one."""
    event = content("stripe", event_type)
    event["data"]["object"] = {
        key: value for key, value in {**event["data"]["object"], **changes}.items() if value is not ...
    }
    return interpret("stripe", event_type, encode(event))


@pytest.mark.parametrize("event_type", names("stripe"))
def test_stripe_event_credits_or_reverses_the_payment_or_is_skipped_with_a_reason(event_type: str) -> None:
    """Every type that a prepaid wallet may meet; the three that tell of money that came mean the same credit."""
    effect = interpret("stripe", event_type, body("stripe", event_type))

    if event_type in CREDITING:
        assert effect == credit(event_type)
    elif event_type in REVERSING:
        assert isinstance(effect, RecordReversals)
        named = {(movement.payment_id, movement.charge_id) for movement in effect.told.movements}
        if effect.told.charge:
            named.add((effect.told.charge.payment_id, effect.told.charge.charge_id))
        assert named == {(CREDIT.payment_id, CHARGE)}
    else:
        assert isinstance(effect, Skip)
        assert effect.reason


def test_every_type_with_a_meaning_has_a_body_to_prove_it() -> None:
    """A type that is added to the table brings its payload; Twilio's forms are made by its sandbox."""
    for provider, event_type in (meaning for meaning in MEANINGS if meaning[0] != "twilio"):
        bodies = [content(provider, name) for name in names(provider)]
        types = {each["type"] if provider == "stripe" else each["message"]["type"] for each in bodies}
        assert event_type in types


def test_event_of_a_type_from_the_future_is_skipped_by_its_name() -> None:
    """Stripe adds types; none of them stops the line."""
    effect = interpret("stripe", "wallet.invented", b"{}")

    assert effect == Skip("wallet.invented is not used for billing")


def test_event_of_another_provider_is_not_read_as_stripes() -> None:
    """A type belongs to its provider."""
    assert isinstance(interpret("vapi", INTENT, body("stripe", INTENT)), Skip)


@pytest.mark.parametrize("event_type", ["checkout.session.completed", "checkout.session.async_payment_succeeded"])
@pytest.mark.parametrize(
    "changes",
    [
        {"payment_status": "unpaid"},
        {"payment_status": "unpaid", "payment_intent": None},
        {"payment_status": "no_payment_required", "amount_total": 0, "payment_intent": None},
        {"payment_intent": None},
        {"payment_intent": ...},
        {"amount_total": 0},
        {"amount_total": None},
        {"amount_total": ...},
        {"mode": "setup", "currency": None, "amount_total": None, "payment_intent": None},
        {"mode": "subscription", "payment_intent": None},
    ],
)
def test_checkout_without_money_is_skipped_with_a_reason(event_type: str, changes: dict[str, Any]) -> None:
    """Delayed methods complete unpaid; other modes have no payment intent."""
    effect = meaning(event_type, **changes)

    assert isinstance(effect, Skip)
    assert effect.reason


def test_payment_of_nothing_is_skipped() -> None:
    """An amount received of zero credits nothing."""
    assert meaning(INTENT, amount_received=0) == Skip("nothing was received")


def test_payment_of_an_invoice_counts_if_it_names_us() -> None:
    """One that names nobody waits until Stripe is asked whom its invoice names; who names us needs none of it."""
    nameless = meaning(INTENT, invoice="in_Example0000001", metadata={})
    assert nameless == replace(CREDIT, reference=None)
    assert meaning(INTENT, invoice="in_Example0000001") == replace(CREDIT, obstacle=None)
    assert meaning(INTENT, invoice=None) == CREDIT


@pytest.mark.parametrize("event_type", sorted(CREDITING))
@pytest.mark.parametrize(
    ("purpose", "is_topup"),
    [
        ("topup", True),
        ("checkout_topup", True),
        ("auto_recharge", True),
        ("", True),
        (None, True),
        ("subscription", False),
    ],
)
def test_payment_counts_as_a_topup_unless_it_says_otherwise(
    event_type: str, purpose: str | None, is_topup: bool
) -> None:
    """By either event of it alike."""
    metadata = {"org_id": ORGANIZATION} | ({} if purpose is None else {"purpose": purpose})
    expected = credit(event_type)
    if purpose != "checkout_topup":
        expected = replace(expected, obstacle=None)

    assert meaning(event_type, metadata=metadata) == (expected if is_topup else Skip("other_purpose"))


def test_payment_credits_what_was_received_and_not_what_was_asked_for() -> None:
    """`amount` may be more than `amount_received`."""
    effect = meaning(INTENT, amount=9_900, amount_received=5_000)

    assert effect == CREDIT


@pytest.mark.parametrize(
    ("event_type", "field"), [(SESSION, "amount_total"), (INTENT, "amount_received")], ids=["session", "intent"]
)
@pytest.mark.parametrize(
    ("currency", "minor", "micros"), [("jpy", 500, 500_000_000), ("kwd", 5_120, 5_120_000), ("eur", 500, 5_000_000)]
)
def test_payment_in_another_currency_is_converted_by_its_own_minor_unit(
    event_type: str, field: str, currency: str, minor: int, micros: int
) -> None:
    """Zero, two and three decimals."""
    effect = meaning(event_type, **{field: minor, "currency": currency})

    assert isinstance(effect, CreditPayment)
    told = effect.sale and (effect.sale.total_micros, effect.sale.currency)
    assert (told or (effect.amount_micros, effect.currency)) == (micros, currency.upper())


@pytest.mark.parametrize(
    ("event_type", "changes", "reference"),
    [
        (SESSION, {"client_reference_id": "cart-17", "metadata": {"org_id": ORGANIZATION}}, ORGANIZATION),
        (SESSION, {"client_reference_id": "cart-17", "metadata": {"organization_id": "org-c"}}, "org-c"),
        (SESSION, {"client_reference_id": "org-a", "metadata": {"purpose": "checkout_topup"}}, "org-a"),
        (SESSION, {"client_reference_id": None, "metadata": {"org_id": "org-b"}}, "org-b"),
        (SESSION, {"client_reference_id": "", "metadata": {"organization_id": "org-c"}}, "org-c"),
        (SESSION, {"client_reference_id": ..., "metadata": ...}, None),
        (SESSION, {"client_reference_id": None, "metadata": None}, None),
        (INTENT, {"metadata": {"organization_id": "org-c"}}, "org-c"),
        (INTENT, {"metadata": {"org_id": "", "organization_id": "org-c"}}, "org-c"),
        (INTENT, {"metadata": {}}, None),
        (INTENT, {"metadata": None}, None),
    ],
)
def test_payment_carries_our_reference_from_wherever_it_stands(
    event_type: str, changes: dict[str, Any], reference: str | None
) -> None:
    """Metadata first, whose key is ours alone, then the shop's free text; without either the customer must do."""
    effect = meaning(event_type, **changes)

    assert isinstance(effect, CreditPayment)
    assert (effect.reference, effect.obstacle != "customer_mismatch") == (reference, True)


@pytest.mark.parametrize(
    ("reference", "contradicted"),
    [
        ("00000000-0000-0000-0000-000000000007", True),
        (ORGANIZATION, False),
        (ORGANIZATION.upper(), False),
        ("cart-17", False),
        (f"{ORGANIZATION}7", False),
        (None, False),
    ],
)
def test_checkout_that_names_two_organizations_says_so(reference: str | None, contradicted: bool) -> None:
    """Only another id in the form of ours contradicts; a cart's number does not."""
    effect = meaning(SESSION, client_reference_id=reference)

    assert isinstance(effect, CreditPayment)
    assert (effect.reference, effect.obstacle == "customer_mismatch") == (ORGANIZATION, contradicted)


@pytest.mark.parametrize("event_type", [SESSION, INTENT])
@pytest.mark.parametrize("customer", [None, ...])
def test_payment_without_a_customer_is_credited_by_reference(event_type: str, customer: Any) -> None:
    """Guests pay too."""
    effect = meaning(event_type, customer=customer)

    assert isinstance(effect, CreditPayment)
    assert effect.customer_id is None


@pytest.mark.parametrize(
    ("event_type", "changes"),
    [
        (SESSION, {"amount_total": "5000"}),
        (SESSION, {"amount_total": 50.5}),
        (SESSION, {"currency": 840}),
        (SESSION, {"payment_intent": {"id": "pi_1"}}),
        (SESSION, {"metadata": {"org_id": 5}}),
        (SESSION, {"client_reference_id": ["org"]}),
        (INTENT, {"id": ...}),
        (INTENT, {"id": None}),
        (INTENT, {"amount_received": ...}),
        (INTENT, {"amount_received": None}),
        (INTENT, {"amount_received": "5000"}),
        (INTENT, {"amount_received": 5_000.5}),
        (INTENT, {"amount_received": -5_000}),
        (INTENT, {"currency": ...}),
        (INTENT, {"currency": None}),
        (INTENT, {"metadata": []}),
    ],
)
def test_payment_that_lacks_what_a_credit_takes_is_unreadable(event_type: str, changes: dict[str, Any]) -> None:
    """Nothing is guessed about money."""
    with pytest.raises(UnreadablePayload):
        meaning(event_type, **changes)


@pytest.mark.parametrize("event_type", sorted(CREDITING))
@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"type": "x"}',
        b'{"type": "x", "created": 1, "data": {}}',
        b'{"type": "x", "created": 1, "data": null}',
        b'{"type": "x", "created": 1, "data": {"object": null}}',
        b'{"type": "x", "created": 1, "data": {"object": []}}',
        b'{"type": "x", "created": "now", "data": {"object": {}}}',
        b'{"type": "x", "created": -1, "data": {"object": {}}}',
        b'{"type": "x", "created": 99999999999999, "data": {"object": {}}}',
        b'{"type": "x", "created": 1, "data": {"object": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"type": "\xff", "created": 1, "data": {"object": {}}}',
    ],
)
def test_event_without_an_envelope_of_stripes_is_unreadable(event_type: str, broken: bytes) -> None:
    """Whatever it is, the error is ours and permanent."""
    with pytest.raises(UnreadablePayload):
        interpret("stripe", event_type, broken)


@pytest.mark.parametrize("event_type", sorted(CREDITING))
@pytest.mark.parametrize("livemode", [True, False])
@pytest.mark.parametrize("expected", [True, False, None])
def test_event_of_the_other_mode_is_parked(event_type: str, livemode: bool, expected: bool | None) -> None:
    """Test money is no money; without an expectation both count."""
    event = {**content("stripe", event_type), "livemode": livemode}

    effect = interpret("stripe", event_type, encode(event), livemode=expected)

    assert effect == (Park("livemode_mismatch") if expected not in {None, livemode} else credit(event_type))


@pytest.mark.parametrize("event_type", sorted(CREDITING | REVERSING))
@pytest.mark.parametrize("livemode", [False, None])
def test_event_of_a_connected_account_is_parked(event_type: str, livemode: bool | None) -> None:
    """The money is in somebody else's account; our own events name none, or null."""
    event = content("stripe", event_type)
    theirs, ours = ({**event, "account": account} for account in ("acct_Example00000001", None))

    assert interpret("stripe", event_type, encode(theirs), livemode=livemode) == Park("connected_account")
    assert isinstance(
        interpret("stripe", event_type, encode(ours), livemode=livemode), CreditPayment | RecordReversals
    )


def test_event_whose_account_is_unreadable_moves_no_money() -> None:
    """Nothing is guessed about whose money it is."""
    with pytest.raises(UnreadablePayload):
        interpret("stripe", INTENT, encode({**content("stripe", INTENT), "account": {"id": "acct_1"}}))


@pytest.mark.parametrize("livemode", [..., None, "true", 1])
def test_event_that_does_not_say_its_mode_is_unreadable_where_that_counts(livemode: Any) -> None:
    """A payment is not taken for real because the field is missing."""
    event = {**content("stripe", INTENT), "livemode": livemode}
    if livemode is ...:
        del event["livemode"]

    with pytest.raises(UnreadablePayload):
        interpret("stripe", INTENT, encode(event), livemode=True)


def test_event_without_a_meaning_is_skipped_in_either_mode() -> None:
    """Nothing waits for a decision that changes nothing."""
    assert isinstance(interpret("stripe", "invoice.paid", body("stripe", "invoice.paid"), livemode=True), Skip)
