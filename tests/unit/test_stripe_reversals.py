"""What Stripe's refunds and disputes mean for the books."""

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.errors import UnreadablePayload
from billing.events import Effect, Park, RecordReversal, Skip, interpret
from billing.reversals import ToldReversal
from tests.payloads import body, content, encode

REFUNDS = ["refund.created", "refund.updated", "refund.failed"]
DISPUTES = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"]
AT = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
PAYMENT = "pi_Example00000000000000001"
REFUND = ToldReversal("re_Example00000000000000001", "refund", "taken", PAYMENT, 20_000_000, "USD", AT)
DISPUTE = ToldReversal("dp_Example00000000000000001", "dispute", "taken", PAYMENT, 50_000_000, "USD", AT)


def meaning(event_type: str, *, livemode: bool | None = None, **changes: Any) -> Effect:
    """The effect of an event whose object has other values; `...` removes one."""
    event = content("stripe", event_type)
    event["data"]["object"] = {
        key: value for key, value in {**event["data"]["object"], **changes}.items() if value is not ...
    }
    return interpret("stripe", event_type, encode(event), livemode=livemode)


def told(effect: Effect) -> ToldReversal:
    """The step that an effect records."""
    assert isinstance(effect, RecordReversal)
    return effect.reversal


@pytest.mark.parametrize("event_type", REFUNDS)
def test_refund_that_succeeded_is_money_taken_whichever_event_tells(event_type: str) -> None:
    """All three carry the same refund; its own time counts, not that of the event."""
    assert told(meaning(event_type, status="succeeded")) == REFUND


@pytest.mark.parametrize("event_type", REFUNDS)
@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_refund_that_failed_is_money_returned(event_type: str, status: str) -> None:
    """If it had succeeded before, the reseller has the money again, and so has the wallet."""
    step = told(meaning(event_type, status=status))

    assert (step.step, step.amount_micros, step.keys) == ("returned", 20_000_000, REFUND.keys)


@pytest.mark.parametrize("status", ["pending", "requires_action", "invented"])
def test_refund_that_has_not_succeeded_is_skipped_until_it_has(status: str) -> None:
    """Nothing is booked on a promise; `refund.updated` tells the end."""
    effect = meaning("refund.created", status=status)

    assert isinstance(effect, Skip)
    assert status in effect.reason


def test_cumulative_charge_is_skipped_since_each_refund_is_told() -> None:
    """`charge.refunded` is the same money once more."""
    assert isinstance(interpret("stripe", "charge.refunded", body("stripe", "charge.refunded")), Skip)


def test_dispute_takes_when_funds_are_withdrawn_without_the_fee() -> None:
    """Stripe's fee is the reseller's, not the customer's."""
    assert told(meaning("charge.dispute.funds_withdrawn")) == DISPUTE


@pytest.mark.parametrize("event_type", ["charge.dispute.created", "charge.dispute.closed"])
def test_dispute_that_moves_no_funds_is_skipped(event_type: str) -> None:
    """An inquiry withdraws nothing, and what is lost stays withdrawn."""
    assert isinstance(interpret("stripe", event_type, body("stripe", event_type)), Skip)


@pytest.mark.parametrize(
    ("entries", "micros"),
    [
        ([(-5_000, "usd"), (5_000, "usd")], 50_000_000),
        ([(-5_000, "usd"), (3_000, "usd")], 30_000_000),
        ([(-4_600, "eur"), (4_600, "eur")], 50_000_000),
        ([], 50_000_000),
    ],
    ids=["whole", "a part", "settled in another currency", "not told"],
)
def test_dispute_gives_back_what_its_entry_says(entries: list[tuple[int, str]], micros: int) -> None:
    """A part may come back; an amount in the account's own currency says nothing about the wallet's."""
    moved = [{"amount": amount, "currency": currency} for amount, currency in entries]

    step = told(meaning("charge.dispute.funds_reinstated", balance_transactions=moved))

    assert (step.step, step.amount_micros) == ("returned", micros)


@pytest.mark.parametrize("event_type", [*REFUNDS, *DISPUTES])
@pytest.mark.parametrize("payment_intent", [None, ...])
def test_reversal_without_a_payment_intent_is_skipped(event_type: str, payment_intent: Any) -> None:
    """Every top-up has one, so this is other money."""
    assert isinstance(meaning(event_type, payment_intent=payment_intent), Skip)


@pytest.mark.parametrize("event_type", [*REFUNDS, *DISPUTES])
@pytest.mark.parametrize(
    "changes", [{"id": ...}, {"amount": ...}, {"amount": 0}, {"amount": -1}, {"amount": 1.5}, {"currency": None}]
)
def test_reversal_that_lacks_what_a_booking_takes_is_unreadable(event_type: str, changes: dict[str, Any]) -> None:
    """Nothing is guessed about money."""
    with pytest.raises(UnreadablePayload):
        meaning(event_type, **changes)


@pytest.mark.parametrize("event_type", [*REFUNDS, *DISPUTES])
def test_reversal_of_the_other_mode_is_parked(event_type: str) -> None:
    """Test refunds take no real credit."""
    assert meaning(event_type, livemode=True) == Park("livemode_mismatch")


def test_refund_in_yen_is_converted_by_its_own_minor_unit() -> None:
    """Zero decimals."""
    assert (
        told(meaning("refund.created", status="succeeded", currency="jpy", amount=500)).amount_micros == 500_000_000
    )
