"""What Stripe's refunds and disputes mean for the books."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.errors import UnreadablePayload
from billing.events import Effect, Park, RecordReversals, Skip, interpret
from billing.reversals import Movement, RefundedCharge, Reversals
from tests.payloads import content, encode

REFUNDS = ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"]
DISPUTES = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"]
AT = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
PAYMENT = "pi_Example00000000000000001"
CHARGE = "ch_Example00000000000000001"
REFUND_ID = "re_Example00000000000000001"
DISPUTE_ID = "dp_Example00000000000000001"
TAKEN, BACK = "txn_Example00000000000000001", "txn_Example00000000000000002"
REFUND = Movement(REFUND_ID, "refund", REFUND_ID, PAYMENT, CHARGE, -20_000_000, "USD", AT)


def meaning(event_type: str, *, livemode: bool | None = None, **changes: Any) -> Effect:
    """The effect of an event whose object has other values; `...` removes one."""
    event = content("stripe", event_type)
    event["data"]["object"] = {
        key: value for key, value in {**event["data"]["object"], **changes}.items() if value is not ...
    }
    return interpret("stripe", event_type, encode(event), livemode=livemode)


def told(effect: Effect) -> Reversals:
    """What an effect records."""
    assert isinstance(effect, RecordReversals)
    return effect.told


def amounts(effect: Effect) -> dict[str, int]:
    """What moved, by id."""
    return {movement.id: movement.amount_micros for movement in told(effect).movements}


@pytest.mark.parametrize("event_type", REFUNDS)
def test_refund_that_succeeded_is_money_taken_whichever_event_tells(event_type: str) -> None:
    """All carry the same refund; its own time counts, not that of the event."""
    assert told(meaning(event_type, status="succeeded")) == Reversals((REFUND,))


@pytest.mark.parametrize(("status", "moved_at"), [("succeeded", AT), (None, AT), ("failed", AT + timedelta(days=3))])
def test_refund_moves_when_it_was_made_and_comes_back_when_that_is_told(
    status: str | None, moved_at: datetime
) -> None:
    """Stripe tells of it again days later: the money left with the refund, and only its failure is as new as that."""
    event = content("stripe", "refund.updated")
    event["created"] = int((AT + timedelta(days=3)).timestamp())
    event["data"]["object"] |= {"created": int(AT.timestamp()), "status": status}
    (movement,) = told(interpret("stripe", "refund.updated", encode(event), livemode=None)).movements

    assert movement.event_at == moved_at


@pytest.mark.parametrize("event_type", REFUNDS)
@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_refund_that_failed_is_money_returned(event_type: str, status: str) -> None:
    """If it had succeeded before, the reseller has the money again, and so has the wallet."""
    (movement,) = told(meaning(event_type, status=status)).movements

    assert (movement.amount_micros, movement.key) == (20_000_000, f"refund:{REFUND_ID}:returned")
    assert movement.source_id == REFUND_ID


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_refund_that_may_still_fail_is_only_announced(status: str) -> None:
    """Nothing is booked on a promise; `refund.updated` tells the end."""
    (movement,) = told(meaning("refund.created", status=status)).movements

    assert (movement.id, movement.event_at) == (REFUND_ID, None)


@pytest.mark.parametrize("changes", [{"status": "invented"}, {"reason": "expired_uncaptured_charge"}])
def test_refund_that_moves_nothing_is_skipped(changes: dict[str, Any]) -> None:
    """In a state from the future, or of money that was only authorized."""
    assert isinstance(meaning("refund.created", **changes), Skip)


def test_charge_that_was_refunded_says_how_much_altogether() -> None:
    """Not which refunds: these are compared with what is known of them."""
    assert told(meaning("charge.refunded")) == Reversals(charge=RefundedCharge(PAYMENT, CHARGE, 20_000_000, "USD"))


@pytest.mark.parametrize(
    ("amount", "captured", "refunded", "micros"),
    [
        (5_000, 5_000, 5_000, 50_000_000),
        (5_000, ..., 5_000, 50_000_000),
        (5_000, 3_000, 2_500, 5_000_000),
        (5_000, 3_000, 500, 5_000_000),
    ],
    ids=["whole", "says nothing of capture", "captured in part", "without what was not captured"],
)
def test_charge_counts_no_uncaptured_part_as_refunded(amount: int, captured: Any, refunded: int, micros: int) -> None:
    """A charge that was captured in part has the rest in `amount_refunded`, and nobody ever paid it."""
    charge = told(
        meaning("charge.refunded", amount=amount, amount_captured=captured, amount_refunded=refunded)
    ).charge

    assert charge is not None
    assert charge.refunded_micros == micros


@pytest.mark.parametrize("captured", [3_000, 0])
def test_partial_capture_is_no_refund(captured: int) -> None:
    """Nor is an authorization that ended."""
    effect = meaning("charge.refunded", amount=5_000, amount_captured=captured, amount_refunded=5_000 - captured)

    assert isinstance(effect, Skip)


def test_old_charge_lists_its_refunds() -> None:
    """Before API version 2022-11-15: each is told by it, those that failed or wait too."""
    refund = content("stripe", "refund.created")["data"]["object"]
    listed = [
        {**refund, "status": "succeeded", "payment_intent": None},
        {**refund, "id": "re_2", "status": "pending"},
        {**refund, "id": "re_3", "status": "failed"},
        {name: value for name, value in {**refund, "id": "re_4"}.items() if name != "status"},
    ]
    effect = meaning("charge.refunded", refunds={"object": "list", "data": listed, "has_more": False})

    assert amounts(effect) == {
        REFUND_ID: -20_000_000, "re_2": -20_000_000, "re_3:returned": 20_000_000, "re_4": -20_000_000,
    }  # fmt: skip
    assert {movement.payment_id for movement in told(effect).movements} == {PAYMENT}


def test_dispute_takes_what_its_balance_transaction_says_without_the_fee() -> None:
    """Stripe's fee is the reseller's, not the customer's."""
    assert told(meaning("charge.dispute.funds_withdrawn")).movements == (
        Movement(TAKEN, "dispute", DISPUTE_ID, PAYMENT, CHARGE, -50_000_000, "USD", AT, 50_000_000, "USD"),
    )


@pytest.mark.parametrize("event_type", ["updated", "closed", "funds_reinstated"])
def test_dispute_moves_what_it_lists_whichever_event_tells(event_type: str) -> None:
    """Adjustments come with no event of their own."""
    entry = {"object": "balance_transaction", "currency": "eur", "created": 1_793_714_460}
    listed = [
        {**entry, "id": "txn_1", "amount": -9_250},
        {**entry, "id": "txn_2", "amount": 31},
        {**entry, "id": "txn_fee", "amount": 0},
    ]
    effect = meaning(f"charge.dispute.{event_type}", balance_transactions=listed, status="lost")

    assert amounts(effect) == {"txn_1": -92_500_000, "txn_2": 310_000}
    assert {(m.currency, m.disputed_micros, m.disputed_currency) for m in told(effect).movements} == {
        ("EUR", 50_000_000, "USD")
    }
    assert {m.event_at for m in told(effect).movements} == {AT.replace(minute=1)}


@pytest.mark.parametrize("event_type", ["charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"])
@pytest.mark.parametrize("listed", [[], None, ...])
@pytest.mark.parametrize("status", ["warning_needs_response", "warning_closed", "lost", "won"])
def test_dispute_that_lists_nothing_moves_nothing(event_type: str, listed: Any, status: str) -> None:
    """An inquiry withdraws nothing, and neither winning nor losing moves anything by itself."""
    assert isinstance(meaning(event_type, balance_transactions=listed, status=status), Skip)


@pytest.mark.parametrize("listed", [[], None, ...])
def test_dispute_without_balance_transactions_moves_the_disputed_amount(listed: Any) -> None:
    """Old versions do not tell them; what moved bears the dispute's id until they are told."""
    withdrawn = amounts(meaning("charge.dispute.funds_withdrawn", balance_transactions=listed))
    reinstated = amounts(meaning("charge.dispute.funds_reinstated", balance_transactions=listed))

    assert withdrawn == {f"{DISPUTE_ID}:withdrawn": -50_000_000}
    assert reinstated == {f"{DISPUTE_ID}:reinstated": 50_000_000}


def test_dispute_that_does_not_list_yet_what_came_back_assumes_all_of_it() -> None:
    """The event says that money was reinstated."""
    listed = content("stripe", "charge.dispute.funds_withdrawn")["data"]["object"]["balance_transactions"]
    effect = meaning("charge.dispute.funds_reinstated", balance_transactions=listed)

    assert amounts(effect) == {TAKEN: -50_000_000, f"{DISPUTE_ID}:reinstated": 50_000_000}


@pytest.mark.parametrize("event_type", [*REFUNDS, *DISPUTES])
@pytest.mark.parametrize("absent", [None, ...])
def test_reversal_that_names_only_the_charge_is_of_its_payment(event_type: str, absent: Any) -> None:
    """The charge leads to the payment; without either it is other money."""
    effect = meaning(event_type, payment_intent=absent)

    assert {(m.payment_id, m.charge_id) for m in told(effect).movements} == {(None, CHARGE)}
    assert isinstance(meaning(event_type, payment_intent=absent, charge=absent), Skip)


@pytest.mark.parametrize("event_type", [*REFUNDS, *DISPUTES])
@pytest.mark.parametrize(
    "changes", [{"id": ...}, {"amount": ...}, {"amount": 0}, {"amount": -1}, {"amount": 1.5}, {"currency": None}]
)
def test_reversal_that_lacks_what_a_booking_takes_is_unreadable(event_type: str, changes: dict[str, Any]) -> None:
    """Nothing is guessed about money."""
    with pytest.raises(UnreadablePayload):
        meaning(event_type, **changes)


@pytest.mark.parametrize("event_type", [*REFUNDS, *DISPUTES, "charge.refunded"])
def test_reversal_of_the_other_mode_is_parked(event_type: str) -> None:
    """Test refunds take no real credit."""
    assert meaning(event_type, livemode=True) == Park("livemode_mismatch")


def test_refund_in_yen_is_converted_by_its_own_minor_unit() -> None:
    """Zero decimals."""
    (movement,) = told(meaning("refund.created", status="succeeded", currency="jpy", amount=500)).movements

    assert movement.amount_micros == -500_000_000
