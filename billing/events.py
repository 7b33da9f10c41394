"""What an event means for the books. Pure: bytes in, one effect out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeGuard
from uuid import UUID

import msgspec

from billing.errors import UnreadablePayload
from billing.money import micros_from_minor_units
from billing.provider_json import UNREADABLE, decode
from billing.reversals import ToldReversal, read_dispute, read_refund
from billing.twilio import ToldMessage, read_callback
from billing.vapi import EndedCall, read_report


@dataclass(frozen=True, slots=True)
class CreditPayment:
    """A payment has succeeded: credit it under its payment intent, whichever event tells of it first."""

    payment_id: str
    reference: str | None
    """Our organization's id, as we gave it to Stripe."""
    customer_id: str | None
    amount_micros: int
    currency: str
    event_at: datetime
    contradicted: bool = False
    """It names two organizations: not to be credited to either."""


@dataclass(frozen=True, slots=True)
class RecordCall:
    """A call has ended: store it and charge it."""

    call: EndedCall


@dataclass(frozen=True, slots=True)
class RecordReversal:
    """Stripe took money back, or it came back: note it, and book it once its payment is credited."""

    reversal: ToldReversal


@dataclass(frozen=True, slots=True)
class RecordMessage:
    """A message has come to a status: note it, and charge the message once it can be."""

    message: ToldMessage


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing to do, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Park:
    """It cannot be applied here as things are; `reason` is a short code, as the inbox keeps it."""

    reason: str


Effect = CreditPayment | RecordReversal | RecordCall | RecordMessage | Skip | Park


LAST_SECOND = 253_402_300_799
"""Of the year 9999, the last that a datetime can hold."""


TOPUP_PURPOSES = {"topup", "checkout_topup", "auto_recharge"}
"""What `metadata.purpose` says on a payment for the wallet; without one every payment is taken for such."""


class _StripeEvent(msgspec.Struct, frozen=True):
    class Data(msgspec.Struct, frozen=True):
        object: msgspec.Raw

    type: str
    created: Annotated[int, msgspec.Meta(ge=0, le=LAST_SECOND)]
    data: Data


class _Origin(msgspec.Struct, frozen=True):
    livemode: bool | None = None
    account: str | None = None


class _CheckoutSession(msgspec.Struct, frozen=True):
    currency: str | None = None
    amount_total: int | None = None
    payment_status: str | None = None
    payment_intent: str | None = None
    client_reference_id: str | None = None
    customer: str | None = None
    metadata: dict[str, str] | None = None


class _PaymentIntent(msgspec.Struct, frozen=True):
    id: str
    amount_received: Annotated[int, msgspec.Meta(ge=0)]
    currency: str
    customer: str | None = None
    invoice: str | None = None
    """Only in older API versions; newer ones do not say on a payment what it pays."""
    metadata: dict[str, str] | None = None


_origin = msgspec.json.Decoder(_Origin)
_stripe_event = msgspec.json.Decoder(_StripeEvent)
_checkout_session = msgspec.json.Decoder(_CheckoutSession)
_payment_intent = msgspec.json.Decoder(_PaymentIntent)


def interpret(provider: str, event_type: str, body: bytes, *, livemode: bool | None = None) -> Effect:
    """The effect of a stored event; `livemode` is the mode of Stripe that counts here, None for both.

    Raises:
        UnreadablePayload: a kind of event that moves money, but without what that takes.
    """
    meaning = MEANINGS.get((provider, event_type))
    if meaning is None:
        return Skip(f"{event_type} is not used for billing")
    try:
        foreign = _foreign(body, livemode) if provider == "stripe" else None
        return foreign or meaning(body)
    except UNREADABLE as error:
        raise UnreadablePayload(f"the {provider} event is not readable: {error}") from error


def _foreign(body: bytes, livemode: bool | None) -> Park | None:
    """Why a Stripe event is not about our money: test events reach a live endpoint through its secret or a Connect
    account, and one that names an `account` (Connect only: Stripe's Event object) is about that account's money.
    """
    origin = decode(_origin, body)
    if livemode is not None and origin.livemode is None:
        raise UnreadablePayload("the stripe event does not say whether it is of live mode")
    if livemode is not None and origin.livemode is not livemode:
        return Park("livemode_mismatch")
    return Park("connected_account") if origin.account else None


def _paid_checkout(body: bytes) -> Effect:
    """`checkout.session.completed` or `.async_payment_succeeded`; the former also comes before delayed money does."""
    event = decode(_stripe_event, body)
    session = decode(_checkout_session, event.data.object)
    if session.payment_status == "unpaid":
        return Skip("not paid yet: checkout.session.async_payment_succeeded follows when it is")
    if session.payment_intent is None:
        return Skip("no payment was made in this Checkout Session")
    if not session.amount_total or not session.currency:
        return Skip("nothing was paid in this Checkout Session")
    if _is_for_something_else(session.metadata):
        return Skip("other_purpose")
    ours, shops = _reference(session.metadata), session.client_reference_id
    return _credit(
        event,
        session.payment_intent,
        reference=ours or shops,
        contradicted=_is_uuid(ours) and _is_uuid(shops) and UUID(ours) != UUID(shops),
        customer_id=session.customer,
        amount=session.amount_total,
        currency=session.currency,
    )


def _succeeded_payment(body: bytes) -> Effect:
    """`payment_intent.succeeded`; `amount_received` is what arrived."""
    event = decode(_stripe_event, body)
    payment = decode(_payment_intent, event.data.object)
    if not payment.amount_received:
        return Skip("nothing was received")
    if payment.invoice:
        return Skip("invoice")
    if _is_for_something_else(payment.metadata):
        return Skip("other_purpose")
    return _credit(
        event,
        payment.id,
        reference=_reference(payment.metadata),
        customer_id=payment.customer,
        amount=payment.amount_received,
        currency=payment.currency,
    )


def _credit(
    event: _StripeEvent,
    payment_id: str,
    *,
    reference: str | None,
    customer_id: str | None,
    amount: int,
    currency: str,
    contradicted: bool = False,
) -> CreditPayment:
    """`amount` in Stripe's minor units."""
    return CreditPayment(
        payment_id=payment_id,
        reference=reference,
        customer_id=customer_id,
        amount_micros=micros_from_minor_units(amount, currency),
        currency=currency.upper(),
        event_at=datetime.fromtimestamp(event.created, UTC),
        contradicted=contradicted,
    )


def _reference(metadata: dict[str, str] | None) -> str | None:
    """The organization's id that we put on Stripe's objects. The key is ours alone, so it goes before the Checkout
    Session's `client_reference_id`, a free text where shops put the id of a cart."""
    return (metadata or {}).get("org_id") or (metadata or {}).get("organization_id")


def _is_for_something_else(metadata: dict[str, str] | None) -> bool:
    """Whether the payment says that it is not for the wallet, such as one of a shop or of a subscription."""
    purpose = (metadata or {}).get("purpose")
    return bool(purpose) and purpose not in TOPUP_PURPOSES


def _is_uuid(text: str | None) -> TypeGuard[str]:
    """Whether it has the form of our organizations' ids, as `find_payer` in `sql/` reads them."""
    return text is not None and re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None


def _refund(body: bytes) -> Effect:
    told = read_refund(body)
    return Skip(told) if isinstance(told, str) else RecordReversal(told)


def _dispute(body: bytes) -> Effect:
    told = read_dispute(body)
    return Skip(told) if isinstance(told, str) else RecordReversal(told)


def _ended_call(body: bytes) -> Effect:
    return RecordCall(read_report(body))


def _status_update(_body: bytes) -> Effect:
    return Skip("a status update carries neither times nor money: the end-of-call report does")


def _message_status(body: bytes) -> Effect:
    told = read_callback(body)
    if told.is_incoming:
        return Skip("an incoming message is not charged")
    return RecordMessage(told)


MEANINGS: dict[tuple[str, str], Callable[[bytes], Effect]] = {
    ("stripe", "checkout.session.completed"): _paid_checkout,
    ("stripe", "checkout.session.async_payment_succeeded"): _paid_checkout,
    ("stripe", "payment_intent.succeeded"): _succeeded_payment,
    ("stripe", "refund.created"): _refund,
    ("stripe", "refund.updated"): _refund,
    ("stripe", "refund.failed"): _refund,
    ("stripe", "charge.dispute.funds_withdrawn"): _dispute,
    ("stripe", "charge.dispute.funds_reinstated"): _dispute,
    ("vapi", "end-of-call-report"): _ended_call,
    ("vapi", "status-update"): _status_update,
    ("twilio", "message-status"): _message_status,
}
"""Everything that has a meaning; whatever is not here is skipped with that as its reason."""
