"""What an event means for the books. Pure: bytes in, one effect out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import msgspec

from billing.errors import UnreadablePayload
from billing.named_money import NamedMoney, read_named_money
from billing.payments import (
    CANNOT_ASK,
    OTHER_PURPOSE,
    Answers,
    CreditPayment,
    Question,
    names_of,
    read_paid_checkout,
    read_succeeded_payment,
)
from billing.provider_json import UNREADABLE, decode
from billing.reversals import Reversals, read_charge, read_dispute, read_refund
from billing.thin_events import PREFIX, read_thin_event
from billing.twilio import ToldMessage, read_callback
from billing.vapi import EndedCall, read_report

NO_ANSWERS: Final[Answers] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RecordCall:
    """A call has ended: store it and charge it."""

    call: EndedCall


@dataclass(frozen=True, slots=True)
class RecordReversals:
    """Stripe took money back, or it came back: note it, and book it once its payment is credited."""

    told: Reversals
    question: Question | None = None
    """What Stripe is asked if it cannot be booked as it is told."""


@dataclass(frozen=True, slots=True)
class RecordMessage:
    """A message has come to a status: note it, and charge the message once it can be."""

    message: ToldMessage


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing to do, and why."""

    reason: str
    payment_id: str | None = field(default=None, compare=False)
    """A payment that is none of ours: its refunds and disputes are not either."""
    charge_id: str | None = field(default=None, compare=False)
    money: NamedMoney | None = field(default=None, compare=False)
    """Money that came in and bears an organization's name: if it is not booked, skipping would hide it."""


@dataclass(frozen=True, slots=True)
class Park:
    """It cannot be applied here as things are; `reason` is a short code, as the inbox keeps it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Only Stripe's answer says what it means; `twin` is the event that would say the same without being asked."""

    question: Question
    twin: str | None


Effect = CreditPayment | Ask | RecordReversals | RecordCall | RecordMessage | Skip | Park


class _Origin(msgspec.Struct, frozen=True):
    livemode: bool | None = None
    account: str | None = None
    context: str | None = None
    """The same since 2025-04-30, also on thin events."""


_origin = msgspec.json.Decoder(_Origin)


def interpret(
    provider: str,
    event_type: str,
    body: bytes,
    *,
    livemode: bool | None = None,
    answers: Answers = NO_ANSWERS,
    asks: bool = False,
) -> Effect:
    """The effect of a stored event; `livemode` is the mode of Stripe that counts here, None for both.

    Some events of Stripe's do not say enough. Where somebody `asks`, the effect has a question then, and comes out
    once its answer is given; else it is made of what is told, or waits.

    Raises:
        UnreadablePayload: a kind of event that moves money, but without what that takes.
    """
    is_thin = provider == "stripe" and event_type.startswith(PREFIX)
    snapshot_type = event_type.removeprefix(PREFIX) if is_thin else event_type
    meaning = MEANINGS.get((provider, snapshot_type))
    if meaning is None:
        return _not_used(provider, event_type, body, livemode)
    try:
        if provider == "stripe" and (foreign := _foreign(body, livemode)):
            return foreign
        if not is_thin:
            return meaning(body, answers, asks)
        thin = read_thin_event(body)
        if thin.question in answers:
            content = answers[thin.question]
            if content is None or content == b"null":
                return Park(f"{CANNOT_ASK}:{thin.question.id}")
            return meaning(thin.as_snapshot(snapshot_type, content), answers, asks)
        return Ask(thin.question, thin.twin) if asks else Park(f"{CANNOT_ASK}:{thin.question.id}")
    except (*UNREADABLE, ValueError) as error:  # ValueError: what is called a currency, and is none
        raise UnreadablePayload(f"the {provider} event is not readable: {error}") from error


def _not_used(provider: str, event_type: str, body: bytes, livemode: bool | None) -> Skip:
    """What has no meaning may be of any form; that of Stripe may tell of money all the same."""
    skip = Skip(f"{event_type} is not used for billing")
    if provider != "stripe":
        return skip
    try:
        return skip if _foreign(body, livemode) else replace(skip, money=read_named_money(body))
    except (*UNREADABLE, UnreadablePayload, ValueError):
        return skip


def _foreign(body: bytes, livemode: bool | None) -> Park | None:
    """Why a Stripe event is not about our money: test events reach a live endpoint through its secret or a Connect
    account, and one that names an `account` (Connect only: Stripe's Event object), or a `context`, which came for it,
    is about that account's money.
    """
    origin = decode(_origin, body)
    if livemode is not None and origin.livemode is None:
        raise UnreadablePayload("the stripe event does not say whether it is of live mode")
    if livemode is not None and origin.livemode is not livemode:
        return Park("livemode_mismatch")
    return Park("connected_account") if origin.account or origin.context else None


def _paid_checkout(body: bytes, _answers: Answers, _asks: bool) -> Effect:
    """Credits what was sold: net of tax and fees, after discounts, in the wallet's currency, once a payment."""
    told = read_paid_checkout(body)
    return replace(_skipped(told, body), money=read_named_money(body)) if isinstance(told, str) else told


def _succeeded_payment(body: bytes, answers: Answers, asks: bool) -> Effect:
    """Credits that share of what arrived; asks for its Checkout Session or invoice where no event has told of it."""
    told = read_succeeded_payment(body, answers, asks=asks)
    return _skipped(told, body) if isinstance(told, str) else told


def _skipped(reason: str, body: bytes) -> Skip:
    return Skip(reason, *names_of(body)) if reason == OTHER_PURPOSE else Skip(reason)


def _refund(body: bytes, answers: Answers, asks: bool) -> Effect:
    """Takes back the share that was credited, once, past any limit; one that fails later gives it back."""
    return _reversals(read_refund(body), answers, asks)


def _refunded_charge(body: bytes, answers: Answers, asks: bool) -> Effect:
    """Compared with the refunds that are known; what is missing is asked for, or waits."""
    return _reversals(read_charge(body), answers, asks)


def _dispute(body: bytes, answers: Answers, asks: bool) -> Effect:
    """Each balance transaction listed moves once: taken, given back or adjusted, by the share that was credited."""
    return _reversals(read_dispute(body), answers, asks)


def _reversals(told: Reversals | str, answers: Answers, asks: bool) -> Effect:
    question = None if isinstance(told, str) else told.question
    if not isinstance(told, str) and question and (answer := answers.get(question)) is not None:
        told, question = told.answered(answer), None
    if isinstance(told, str):
        return Skip(told)
    return RecordReversals(told, question if asks and question not in answers else None)


def _ended_call(body: bytes, _answers: Answers, _asks: bool) -> Effect:
    """Stores the call and charges it: price at that time, increment, minimum; one that cannot be is held."""
    return RecordCall(read_report(body))


def _status_update(_body: bytes, _answers: Answers, _asks: bool) -> Effect:
    """Skipped: it carries neither times nor money."""
    return Skip("a status update carries neither times nor money: the end-of-call report does")


def _message_status(body: bytes, _answers: Answers, _asks: bool) -> Effect:
    """Settled in any order, charged by the segment once a carrier took the message and its price is set."""
    told = read_callback(body)
    if told.is_incoming:
        return Skip("an incoming message is not charged")
    return RecordMessage(told)


MEANINGS: dict[tuple[str, str], Callable[[bytes, Answers, bool], Effect]] = {
    ("stripe", "checkout.session.completed"): _paid_checkout,
    ("stripe", "checkout.session.async_payment_succeeded"): _paid_checkout,
    ("stripe", "payment_intent.succeeded"): _succeeded_payment,
    ("stripe", "refund.created"): _refund,
    ("stripe", "refund.updated"): _refund,
    ("stripe", "refund.failed"): _refund,
    ("stripe", "charge.refund.updated"): _refund,
    ("stripe", "charge.refunded"): _refunded_charge,
    ("stripe", "charge.dispute.created"): _dispute,
    ("stripe", "charge.dispute.updated"): _dispute,
    ("stripe", "charge.dispute.closed"): _dispute,
    ("stripe", "charge.dispute.funds_withdrawn"): _dispute,
    ("stripe", "charge.dispute.funds_reinstated"): _dispute,
    ("vapi", "end-of-call-report"): _ended_call,
    ("vapi", "status-update"): _status_update,
    ("twilio", "message-status"): _message_status,
}
"""Everything that has a meaning, which the first line of each function says, also to readers of the README; whatever
is not here is skipped with that as its reason."""

REPEATING = {
    *("charge.refunded", "charge.refund.updated"),
    *("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"),
}
"""What an endpoint of a newer version may leave out, since other events tell the same of money."""
