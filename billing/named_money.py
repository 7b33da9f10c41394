"""Money of ours in events that have no meaning for the books, so that skipping one hides nothing. Pure."""

from dataclasses import dataclass

import msgspec

from billing.payments import is_for_something_else, reference_in
from billing.provider_json import decode


@dataclass(frozen=True, slots=True)
class NamedMoney:
    """What came in and bears the id of an organization: its payment (`pi_…`), or the invoice or object that it is."""

    subject: str
    reference: str


class _Object(msgspec.Struct, frozen=True):
    """What Stripe's objects that money comes in by have in common: Charge, Invoice, PaymentIntent, Session."""

    id: str
    object: str | None = None
    status: str | None = None
    paid: bool | None = None
    captured: bool | None = None
    """False: only authorized so far."""
    payment_status: str | None = None
    amount: int | None = None
    amount_paid: int | None = None
    amount_total: int | None = None
    payment_intent: str | None = None
    invoice: str | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None


class _Event(msgspec.Struct, frozen=True):
    class Data(msgspec.Struct, frozen=True):
        object: _Object

    data: Data


_event = msgspec.json.Decoder(_Event)

MONEY_COMES_BY = {"charge", "checkout.session", "invoice", "payment_intent"}
"""Other objects that succeed or are paid, such as a payout, a transfer or a refund, are no customer's payment."""


def read_named_money(body: bytes) -> NamedMoney | None:
    """What an event tells of money that has come in for an organization; None if it tells of none.

    A purpose other than a top-up says that it is not the wallet's, and so it is not.

    Raises:
        msgspec.DecodeError: not a snapshot event about an object.
    """
    told = decode(_event, body).data.object
    metadata = told.metadata or {}
    reference = reference_in(metadata) or told.client_reference_id
    has_come = told.paid or told.status in {"succeeded", "paid"} or told.payment_status == "paid"
    amount = told.amount_paid or told.amount_total or told.amount
    if told.object not in MONEY_COMES_BY or not (reference and has_come and amount) or told.captured is False:
        return None
    if is_for_something_else(metadata):
        return None
    return NamedMoney(told.payment_intent or told.invoice or told.id, reference)
