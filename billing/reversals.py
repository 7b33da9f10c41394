"""What Stripe's refunds and disputes tell: money that it takes back, or gives back."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from sqlalchemy import Connection

from billing.database import rows
from billing.money import currency_code, micros_from_minor_units
from billing.provider_json import decode

LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999, the last that a datetime can hold."""

NO_PAYMENT: Final = "it names no payment intent, so it is of no top-up"

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=LAST_SECOND)]
_Amount = Annotated[int, msgspec.Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class ToldReversal:
    """One step of a refund (`re_…`) or dispute (`dp_…`): the money was taken from us, or came back."""

    id: str
    kind: Literal["refund", "dispute"]
    step: Literal["taken", "returned"]
    payment_id: str
    amount_micros: int
    currency: str
    event_at: datetime

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of its two steps, as `sql/views/reversal_states.sql` builds them."""
        ends = ("", ":returned") if self.kind == "refund" else (":withdrawn", ":reinstated")
        return [f"{self.kind}:{self.id}{end}" for end in ends]


class _Refund(msgspec.Struct, frozen=True):
    id: str
    amount: _Amount
    currency: str
    status: str
    created: _Seconds
    payment_intent: str | None = None


class _RefundEvent(msgspec.Struct, frozen=True):
    class Data(msgspec.Struct, frozen=True):
        object: _Refund

    created: _Seconds
    data: Data


class _BalanceTransaction(msgspec.Struct, frozen=True):
    amount: int
    currency: str


class _Dispute(msgspec.Struct, frozen=True):
    id: str
    amount: _Amount
    currency: str
    balance_transactions: list[_BalanceTransaction] = []
    payment_intent: str | None = None


class _DisputeEvent(msgspec.Struct, frozen=True):
    class Data(msgspec.Struct, frozen=True):
        object: _Dispute

    type: Literal["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"]
    created: _Seconds
    data: Data


_refund_event = msgspec.json.Decoder(_RefundEvent)
_dispute_event = msgspec.json.Decoder(_DisputeEvent)


def read_refund(body: bytes) -> ToldReversal | str:
    """What `refund.created`, `.updated` or `.failed` tells; a text says why nothing moved.

    A refund counts from `succeeded` on. `failed` and `canceled` are final: if it had succeeded, the money is back.
    `charge.refunded` tells the same a second time, as a sum, and is left alone.
    """
    event = decode(_refund_event, body)
    refund = event.data.object
    if refund.payment_intent is None:
        return NO_PAYMENT
    if refund.status not in {"succeeded", "failed", "canceled"}:
        return f"the refund is {refund.status}: refund.updated follows when it has succeeded or failed"
    succeeded = refund.status == "succeeded"
    return ToldReversal(
        id=refund.id,
        kind="refund",
        step="taken" if succeeded else "returned",
        payment_id=refund.payment_intent,
        amount_micros=micros_from_minor_units(refund.amount, refund.currency),
        currency=currency_code(refund.currency),
        event_at=_moment(refund.created if succeeded else event.created),
    )


def read_dispute(body: bytes) -> ToldReversal | str:
    """What `charge.dispute.funds_withdrawn` or `.funds_reinstated` tells; a text says why nothing moved.

    The money moves with these two alone: an inquiry, or a dispute that is only open or closed, moves none. How much
    came back says its entry in `balance_transactions`, which may be a part; in another currency than the dispute's,
    or without an entry, it is the disputed amount. Stripe's fee is not the customer's money.
    """
    event = decode(_dispute_event, body)
    dispute = event.data.object
    if dispute.payment_intent is None:
        return NO_PAYMENT
    withdrawn = event.type == "charge.dispute.funds_withdrawn"
    back = sum(
        entry.amount
        for entry in dispute.balance_transactions
        if entry.amount > 0 and entry.currency == dispute.currency
    )
    return ToldReversal(
        id=dispute.id,
        kind="dispute",
        step="taken" if withdrawn else "returned",
        payment_id=dispute.payment_intent,
        amount_micros=micros_from_minor_units(
            dispute.amount if withdrawn else back or dispute.amount, dispute.currency
        ),
        currency=currency_code(dispute.currency),
        event_at=_moment(event.created),
    )


def record_reversals(connection: Connection, told: list[ToldReversal]) -> dict[str, str | None]:
    """Note what was told and book what can be; by id, null or the reason why it has to wait.

    Within a transaction of the caller's, which holds the locks of the payments.
    """
    if not told:
        return {}
    facts = [{**asdict(step), "event_at": step.event_at.isoformat()} for step in told]
    answers = rows(
        connection, "SELECT reversal_id, reason FROM record_reversals(CAST(:facts AS jsonb))", facts=json.dumps(facts)
    )
    return {answer["reversal_id"]: answer["reason"] for answer in answers}


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
