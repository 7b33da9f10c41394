"""What Stripe's refunds and disputes tell: money that it takes back, or gives back. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from billing.money import currency_code, micros_from_minor_units
from billing.payments import NOTHING, Cents, Question, Seconds, stripe_event
from billing.provider_json import decode

NO_PAYMENT: Final = "it names neither a payment intent nor a charge, so it is of no top-up"

ANNOUNCED: Final = {"pending", "requires_action"}
"""Statuses of a refund that may still come to nothing."""

_Amount = Annotated[int, msgspec.Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class Movement:
    """Money of a refund (`re_…`) or dispute (`dp_…`) that moved once: taken from us (negative), or given back.

    Of a dispute it is one balance transaction (`txn_…`), in the currency in which the Stripe account is settled; what
    the dispute is about (`disputed_micros`) says what its first withdrawal is worth.
    """

    id: str
    kind: Literal["refund", "dispute"]
    source_id: str
    payment_id: str | None
    charge_id: str | None
    amount_micros: int
    currency: str
    event_at: datetime | None
    """None: only announced."""
    disputed_micros: int | None = None
    disputed_currency: str | None = None

    @property
    def key(self) -> str:
        """The idempotency key of its transfer, as `sql/functions/j_movements.sql` builds it."""
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class RefundedCharge:
    """What a charge says of its refunds: how much they come to, those that failed later included, but not which."""

    payment_id: str | None
    charge_id: str
    refunded_micros: int
    currency: str


@dataclass(frozen=True, slots=True)
class Reversals:
    """What one event tells of refunds and disputes."""

    movements: tuple[Movement, ...] = ()
    charge: RefundedCharge | None = None

    @property
    def question(self) -> Question | None:
        """What Stripe could say more: which refunds there are, or which payment a charge is of."""
        if self.charge:
            return Question("refunds_of", self.charge.payment_id) if self.charge.payment_id else None
        first = self.movements[0]
        return Question("charge", first.charge_id) if first.payment_id is None and first.charge_id else None

    def answered(self, answer: bytes) -> "Reversals | str":
        """With what Stripe said to that, as JSON; a text says why nothing moved. What our key does not know is of
        another account, and says nothing about this."""
        if answer == NOTHING:
            return self
        if self.charge:
            known = {movement.source_id for movement in self.movements}
            listed = [refund_movement(refund, refund.created) for refund in decode(_refunds, answer).data]
            more = [movement for movement in listed if movement and movement.source_id not in known]
            return replace(self, movements=(*self.movements, *more))
        charge = decode(_charge_named, answer)
        if charge.payment_intent is None:
            return NO_PAYMENT
        named = (replace(movement, payment_id=charge.payment_intent) for movement in self.movements)
        return replace(self, movements=tuple(named))


class Refund(msgspec.Struct, frozen=True):
    """Stripe's Refund, as much of it as counts."""

    id: str
    amount: _Amount
    currency: str
    created: Seconds
    status: str | None = None
    reason: str | None = None
    payment_intent: str | None = None
    charge: str | None = None


class _BalanceTransaction(msgspec.Struct, frozen=True):
    id: str
    amount: int
    currency: str
    created: Seconds | None = None


class _Dispute(msgspec.Struct, frozen=True):
    id: str
    amount: _Amount
    currency: str
    created: Seconds
    balance_transactions: list[_BalanceTransaction] | None = None
    payment_intent: str | None = None
    charge: str | None = None


class _Refunds(msgspec.Struct, frozen=True):
    data: list[Refund] = []


class _Charge(msgspec.Struct, frozen=True):
    id: str
    amount: Cents
    amount_refunded: Cents
    currency: str
    amount_captured: Cents | None = None
    payment_intent: str | None = None
    refunds: _Refunds | None = None


class _NamedCharge(msgspec.Struct, frozen=True):
    payment_intent: str | None = None


_refund = msgspec.json.Decoder(Refund)
_dispute = msgspec.json.Decoder(_Dispute)
_charge = msgspec.json.Decoder(_Charge)
_refunds = msgspec.json.Decoder(_Refunds)
_charge_named = msgspec.json.Decoder(_NamedCharge)


def read_refund(body: bytes) -> Reversals | str:
    """What `refund.created`, `.updated`, `.failed`, `charge.refund.updated` tell; a text says why nothing moved."""
    event = decode(stripe_event, body)
    refund = decode(_refund, event.data.object)
    if refund.payment_intent is None and refund.charge is None:
        return NO_PAYMENT
    movement = refund_movement(refund, event.created)
    if movement is None:
        return f"the refund is {refund.status} ({refund.reason}): it moves nothing"
    return Reversals((movement,))


def refund_movement(refund: Refund, told_at: int) -> Movement | None:
    """What a refund moves as it is at `told_at` (seconds); None in a state that says nothing.

    It counts from `succeeded` on, and is only announced before. `failed` and `canceled` are final: if it had
    succeeded, the money is back. Very old refunds have no status, and happened. What was authorized and expired
    uncaptured was never paid.
    """
    if refund.reason == "expired_uncaptured_charge":
        return None
    failed = refund.status in {"failed", "canceled"}
    if refund.status not in {"succeeded", None, *ANNOUNCED} and not failed:
        return None
    micros = micros_from_minor_units(refund.amount, refund.currency)
    happened = None if refund.status in ANNOUNCED else _moment(told_at if failed else refund.created)
    return Movement(
        id=f"{refund.id}:returned" if failed else refund.id,
        kind="refund",
        source_id=refund.id,
        payment_id=refund.payment_intent,
        charge_id=refund.charge,
        amount_micros=micros if failed else -micros,
        currency=currency_code(refund.currency),
        event_at=happened,
    )


def read_charge(body: bytes) -> Reversals | str:
    """What `charge.refunded` tells: the sum of all refunds, and before API version 2022-11-15 each of them too.

    What was authorized and never captured also counts as refunded (`amount` less `amount_captured`); nobody ever paid
    it. Where the sum is smaller than that, it cannot be contained in it.
    """
    event = decode(stripe_event, body)
    charge = decode(_charge, event.data.object)
    uncaptured = 0 if charge.amount_captured is None else charge.amount - charge.amount_captured
    refunded = charge.amount_refunded
    if refunded >= uncaptured > 0:
        refunded -= uncaptured
    if not refunded:
        return "nothing is refunded: what was not captured was never paid"
    movements = []
    for refund in charge.refunds.data if charge.refunds else []:
        named = msgspec.structs.replace(refund, payment_intent=charge.payment_intent, charge=charge.id)
        movements.append(refund_movement(named, event.created))
    return Reversals(
        tuple(movement for movement in movements if movement),
        RefundedCharge(
            payment_id=charge.payment_intent,
            charge_id=charge.id,
            refunded_micros=micros_from_minor_units(refunded, charge.currency),
            currency=currency_code(charge.currency),
        ),
    )


def read_dispute(body: bytes) -> Reversals | str:
    """What a dispute's event tells; a text says why nothing moved.

    Money moves with the dispute's balance transactions alone, whichever event lists them: an inquiry, or a dispute
    that is only open, lost or won, moves none by that. `funds_withdrawn` and `funds_reinstated` say that some moved;
    if the list does not show it, it is the disputed amount, until it does. Stripe's fee is not the customer's money.
    """
    event = decode(stripe_event, body)
    dispute = decode(_dispute, event.data.object)
    if dispute.payment_intent is None and dispute.charge is None:
        return NO_PAYMENT
    disputed = micros_from_minor_units(dispute.amount, dispute.currency)

    def moved(name: str, micros: int, currency: str, seconds: int) -> Movement:
        return Movement(
            id=name,
            kind="dispute",
            source_id=dispute.id,
            payment_id=dispute.payment_intent,
            charge_id=dispute.charge,
            amount_micros=micros,
            currency=currency_code(currency),
            event_at=_moment(seconds),
            disputed_micros=disputed,
            disputed_currency=currency_code(dispute.currency),
        )

    movements = [
        moved(
            entry.id,
            micros_from_minor_units(entry.amount, entry.currency),
            entry.currency,
            dispute.created if entry.created is None else entry.created,
        )
        for entry in dispute.balance_transactions or []
        if entry.amount
    ]
    if event.type == "charge.dispute.funds_withdrawn" and not any(m.amount_micros < 0 for m in movements):
        movements.append(moved(f"{dispute.id}:withdrawn", -disputed, dispute.currency, event.created))
    if event.type == "charge.dispute.funds_reinstated" and not any(m.amount_micros > 0 for m in movements):
        movements.append(moved(f"{dispute.id}:reinstated", disputed, dispute.currency, event.created))
    return Reversals(tuple(movements)) if movements else "no funds moved: the dispute lists no balance transaction"


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
