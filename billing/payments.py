"""What Stripe's payments tell: what arrived, what was sold by it, and whose it is. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeGuard
from uuid import UUID

import msgspec

from billing.errors import UnreadablePayload
from billing.money import currency_code, micros_from_minor_units
from billing.provider_json import decode

LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999, the last that a datetime can hold."""
TOPUP_PURPOSES: Final = {"topup", "checkout_topup", "auto_recharge"}
"""What `metadata.purpose` says on a payment for the wallet; without one every payment is taken for such."""
OTHER_PURPOSE: Final = "other_purpose"
INVOICE: Final = "invoice"
"""Why a payment is skipped, and what is taken back of it; of an invoice's, unless a person says whose it is."""
CANNOT_ASK: Final = "cannot_ask_stripe"
"""Why an event waits of which only Stripe could say more, when there is no key or Stripe refuses ours."""

NOTHING: Final = b"null"
"""What Stripe answers where there is nothing by that name. Lists are empty instead, so a payment that has none is not
known to our key: it is of another account."""

ObjectType = Literal["payment_intent", "checkout.session", "refund", "charge", "dispute"]
"""What events of ours are about, as Stripe names it."""
Kind = Literal["session_of", "invoices_of", "invoice", "refunds_of"] | ObjectType


@dataclass(frozen=True, slots=True)
class Question:
    """What one request to Stripe answers: an object by its id, or what belongs to a payment (`pi_…`)."""

    kind: Kind
    id: str


Answers = Mapping[Question, bytes | None]
"""What Stripe said, as JSON (`null`: there is none); None: it refuses to say, or nobody could ask."""


@dataclass(frozen=True, slots=True)
class Sale:
    """What a Checkout Session (`cs_…`) or an invoice (`in_…`) says was sold; amounts in micros.

    `total_micros` is what was to arrive, in `currency`; `shown` is what the payer saw, which adaptive pricing puts
    into another one. Tax, fee and discount are parts of `quoted_micros`, which is one of the two; the total is what
    was asked for after the discount.
    """

    id: str
    currency: str
    total_micros: int
    shown_currency: str
    shown_micros: int
    quoted_micros: int
    tax_micros: int
    fee_micros: int
    discount_micros: int


@dataclass(frozen=True, slots=True)
class CreditPayment:
    """A payment has succeeded: credit it under its payment intent, whichever event tells of it first."""

    payment_id: str
    reference: str | None
    """Our organization's id, as we gave it to Stripe."""
    customer_id: str | None
    event_at: datetime
    amount_micros: int | None = None
    """What arrived; None if only the sale is told."""
    currency: str | None = None
    sale: Sale | None = None
    reference_kind: Literal["metadata", "text", "link"] = "metadata"
    """Where the reference stands: in our key, in `client_reference_id`, or in that of a payment link."""
    question: Question | None = None
    """What Stripe has to be asked before it can be credited."""
    obstacle: str | None = None
    """Why it cannot be credited as it is told."""
    is_one_off: bool = False
    """It is known to be neither of an invoice nor of a subscription."""
    says_topup: bool = field(default=False, compare=False)
    """The payment says so itself, which goes before what its Session or invoice is for."""
    charge_id: str | None = field(default=None, compare=False)
    """What refunds and disputes may name in place of the payment."""


Cents = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=LAST_SECOND)]
"""Of Unix time."""
PaymentId = Annotated[str, msgspec.Meta(pattern=r"\S")]
"""An empty one is no key."""


class StripeEvent(msgspec.Struct, frozen=True):
    """The envelope of a snapshot event."""

    class Data(msgspec.Struct, frozen=True):
        """What it is about."""

        object: msgspec.Raw

    type: str
    created: Seconds
    data: Data

    @property
    def moment(self) -> datetime:
        """When it was made."""
        return datetime.fromtimestamp(self.created, UTC)


class _TotalDetails(msgspec.Struct, frozen=True):
    amount_tax: Cents | None = None
    amount_discount: Cents | None = None
    amount_shipping: Cents | None = None


class _ShippingCost(msgspec.Struct, frozen=True):
    amount_total: Cents
    amount_tax: Cents = 0


class _Presentment(msgspec.Struct, frozen=True):
    presentment_amount: Cents
    presentment_currency: str


class _Conversion(msgspec.Struct, frozen=True):
    amount_total: Cents
    source_currency: str


class _CheckoutSession(msgspec.Struct, frozen=True):
    id: str
    currency: str | None = None
    amount_total: Cents | None = None
    payment_status: str | None = None
    payment_intent: PaymentId | None = None
    payment_link: str | None = None
    invoice: str | None = None
    client_reference_id: str | None = None
    customer: str | None = None
    metadata: dict[str, str] | None = None
    total_details: _TotalDetails | None = None
    shipping_cost: _ShippingCost | None = None
    presentment_details: _Presentment | None = None
    """Adaptive pricing since 2025-03-31: what the payer saw."""
    currency_conversion: _Conversion | None = None
    """Adaptive pricing before: what we asked for; the other amounts are what the payer saw."""


class _PaymentDetails(msgspec.Struct, frozen=True):
    order_reference: str | None = None


class _PaymentIntent(msgspec.Struct, frozen=True):
    id: PaymentId
    amount_received: Cents
    currency: str
    customer: str | None = None
    latest_charge: str | None = None
    invoice: str | None = None
    """Only before 2025-03-31; since then `payment_details` may name it."""
    payment_details: _PaymentDetails | None = None
    metadata: dict[str, str] | None = None

    @property
    def invoice_id(self) -> str | None:
        """The invoice that it says it pays. A shop may put a number of its own where Stripe puts the invoice."""
        order = self.payment_details.order_reference if self.payment_details else None
        return self.invoice or (order if order and order.startswith("in_") else None)


class _Subscription(msgspec.Struct, frozen=True):
    metadata: dict[str, str] | None = None


class _Parent(msgspec.Struct, frozen=True):
    subscription_details: _Subscription | None = None


class _Amount(msgspec.Struct, frozen=True):
    amount: Cents


class _Invoice(msgspec.Struct, frozen=True):
    id: str
    currency: str
    total: int
    total_excluding_tax: int | None = None
    total_taxes: list[_Amount] | None = None
    total_discount_amounts: list[_Amount] | None = None
    metadata: dict[str, str] | None = None
    parent: _Parent | None = None
    subscription_details: _Subscription | None = None
    """Before 2025-03-31 in the place of `parent`."""

    @property
    def names(self) -> list[dict[str, str]]:
        """Its own metadata, then those of its subscription."""
        of = [self.subscription_details, self.parent and self.parent.subscription_details]
        return [self.metadata or {}, *((found and found.metadata) or {} for found in of)]


class _InvoicePayment(msgspec.Struct, frozen=True):
    invoice: msgspec.Raw
    """Its id, or the whole if that was asked for."""


class _Paid(msgspec.Struct, frozen=True):
    id: str
    payment_intent: str | None = None
    latest_charge: str | None = None


class _Sessions(msgspec.Struct, frozen=True):
    data: list[_CheckoutSession]


class _InvoicePayments(msgspec.Struct, frozen=True):
    data: list[_InvoicePayment]


stripe_event = msgspec.json.Decoder(StripeEvent)
_checkout_session = msgspec.json.Decoder(_CheckoutSession)
_payment_intent = msgspec.json.Decoder(_PaymentIntent)
_paid = msgspec.json.Decoder(_Paid)
_sessions = msgspec.json.Decoder(_Sessions)
_invoice_payments = msgspec.json.Decoder(_InvoicePayments)
_invoice = msgspec.json.Decoder(_Invoice | str | None)


def read_paid_checkout(body: bytes) -> CreditPayment | str:
    """What `checkout.session.completed` or `.async_payment_succeeded` tells; a text says why nothing is credited.

    The former also comes before delayed money does. How much arrived stands on the payment alone: less than the total
    if less was captured.
    """
    event = decode(stripe_event, body)
    session = decode(_checkout_session, event.data.object)
    if session.payment_status == "unpaid":
        return "not paid yet: checkout.session.async_payment_succeeded follows when it is"
    if session.payment_intent is None:
        return "no payment was made in this Checkout Session"
    sale = _sale_of_session(session)
    if sale is None:
        return "nothing was paid in this Checkout Session"
    told = CreditPayment(session.payment_intent, None, session.customer, event.moment, sale=sale)
    return _named_by_session(told, session)


def read_succeeded_payment(body: bytes, answers: Answers, *, asks: bool) -> CreditPayment | str:
    """What `payment_intent.succeeded` tells, and Stripe's answers about it; a text says why nothing is credited.

    What was sold stands on its Checkout Session or invoice, so that is asked for: first the invoice that it names,
    else its Session, else its invoices. An invoice that names nobody may be one that a Session made, which does. A
    recharge of ours has none, unless it names one. Unless somebody `asks`, what says that it comes from a Checkout
    Session waits for that, and so does an invoice that names nobody here.
    """
    event = decode(stripe_event, body)
    payment = decode(_payment_intent, event.data.object)
    metadata = payment.metadata or {}
    if not payment.amount_received:
        return "nothing was received"
    if is_for_something_else(metadata):
        return OTHER_PURPOSE
    told = CreditPayment(
        payment_id=payment.id,
        reference=reference_in(metadata),
        customer_id=payment.customer,
        event_at=event.moment,
        amount_micros=micros_from_minor_units(payment.amount_received, payment.currency),
        currency=currency_code(payment.currency),
        charge_id=payment.latest_charge,
        says_topup=bool(metadata.get("purpose")),
    )
    if payment.invoice_id:
        question = Question("invoice", payment.invoice_id)
    elif told.reference and metadata.get("purpose") == "auto_recharge":
        return told
    else:
        question = Question("session_of", payment.id)
    if not asks and question not in answers:
        comes_from_checkout = metadata.get("purpose") == "checkout_topup"
        waits = comes_from_checkout if payment.invoice_id is None else not told.reference
        return replace(told, obstacle=CANNOT_ASK if waits else None)
    return _asked(told, question, answers)


def names_of(body: bytes) -> tuple[str, str | None]:
    """The payment that an event of the two above is about, and its charge if that is told."""
    paid = decode(_paid, decode(stripe_event, body).data.object)
    return paid.payment_intent or paid.id, paid.latest_charge


def _asked(told: CreditPayment, question: Question, answers: Answers) -> CreditPayment | str:
    """The payment with what Stripe says of it, as far as it has been asked."""
    if question not in answers:
        return replace(told, question=question)
    answer = answers[question]
    if answer is None or (answer == NOTHING and question.kind != "invoice"):
        return replace(told, obstacle=CANNOT_ASK)
    if question.kind == "session_of":
        return _sold_in_session(told, decode(_sessions, answer).data, answers)
    invoice = _invoice_in(question, answer)
    if invoice is None:
        return replace(told, is_one_off=question.kind == "invoices_of")
    if isinstance(invoice, str):
        return _asked(told, Question("invoice", invoice), answers)
    return _named_by_invoice(told, invoice, answers)


def _sold_in_session(told: CreditPayment, sessions: list[_CheckoutSession], answers: Answers) -> CreditPayment | str:
    if not sessions:
        return _asked(told, Question("invoices_of", told.payment_id), answers)
    session = sessions[0]  # a payment is made in one
    if is_for_something_else(session.metadata or {}) and not told.says_topup:
        return OTHER_PURPOSE
    told = replace(told, sale=_sale_of_session(session), customer_id=told.customer_id or session.customer)
    return told if told.reference else _named_by_session(told, session)


def _invoice_in(question: Question, answer: bytes) -> _Invoice | str | None:
    """The invoice that was asked for, or its id if that is all there is; None: there is none."""
    if question.kind != "invoice":
        found = decode(_invoice_payments, answer).data
        answer = bytes(found[0].invoice) if found else b"null"
    invoice: _Invoice | str | None = decode(_invoice, answer)
    return invoice


def _named_by_invoice(told: CreditPayment, invoice: _Invoice, answers: Answers) -> CreditPayment | str:
    """What recurs may name us on the subscription alone; an invoice that names nobody here is another business,
    unless a Checkout Session made it that does."""
    told = replace(told, sale=_sale_of_invoice(invoice))
    if told.reference:
        is_other = any(map(is_for_something_else, invoice.names)) and not told.says_topup
        return OTHER_PURPOSE if is_other else told
    for metadata in invoice.names:
        if reference := reference_in(metadata):
            return OTHER_PURPOSE if is_for_something_else(metadata) else replace(told, reference=reference)
    question = Question("session_of", told.payment_id)
    if answers.get(question) is None or answers[question] == NOTHING:
        return _asked(told, question, answers)
    sessions = decode(_sessions, answers[question] or NOTHING).data
    named = _sold_in_session(told, sessions, answers) if sessions else told
    return replace(named, obstacle=INVOICE) if isinstance(named, CreditPayment) and not named.reference else named


def _named_by_session(told: CreditPayment, session: _CheckoutSession) -> CreditPayment | str:
    """Our key goes before `client_reference_id`, a free text where shops put the id of a cart, and which the payer
    writes into the address of a payment link."""
    metadata, text = session.metadata or {}, session.client_reference_id
    if is_for_something_else(metadata):
        return OTHER_PURPOSE
    ours = reference_in(metadata)
    contradicted = not session.payment_link and _is_uuid(ours) and _is_uuid(text) and UUID(ours) != UUID(text)
    return replace(
        told,
        reference=ours or text,
        reference_kind="metadata" if ours else "link" if session.payment_link else "text",
        obstacle="customer_mismatch" if contradicted else told.obstacle,
        is_one_off=session.invoice is None,
    )


def _sale_of_session(session: _CheckoutSession) -> Sale | None:
    """Net of tax is `amount_total - amount_tax`, be the prices with or without it. Shipping is no credit either: what
    a shop adds for being served is a shipping rate, the only sum beside goods and tax that a Session has."""
    if not session.amount_total or not session.currency:
        return None
    details = session.total_details or _TotalDetails()
    shipping = session.shipping_cost
    fee = shipping.amount_total - shipping.amount_tax if shipping else details.amount_shipping or 0
    quoted = shown = (session.amount_total, session.currency)
    total = quoted
    if session.currency_conversion:
        total = (session.currency_conversion.amount_total, session.currency_conversion.source_currency)
    elif session.presentment_details:
        shown = (
            session.presentment_details.presentment_amount,
            session.presentment_details.presentment_currency,
        )
    return _sale(session.id, total, shown, quoted, details.amount_tax or 0, fee, details.amount_discount or 0)


def _sale_of_invoice(invoice: _Invoice) -> Sale | None:
    if invoice.total <= 0:
        return None
    total = (invoice.total, invoice.currency)
    tax = sum(found.amount for found in invoice.total_taxes or [])
    if invoice.total_excluding_tax is not None:
        tax = invoice.total - invoice.total_excluding_tax
    discount = sum(found.amount for found in invoice.total_discount_amounts or [])
    return _sale(invoice.id, total, total, total, tax, 0, discount)


def _sale(
    sale_id: str,
    total: tuple[int, str],
    shown: tuple[int, str],
    quoted: tuple[int, str],
    tax: int,
    fee: int,
    discount: int,
) -> Sale | None:
    """Each total with its currency, in minor units as are the parts of `quoted`.

    Raises:
        UnreadablePayload: the parts are more than the whole.
    """
    if tax < 0 or fee < 0 or tax + fee >= quoted[0] or not total[0] or not shown[0]:
        raise UnreadablePayload(f"{sale_id} says that tax and fees leave nothing of what was paid")
    return Sale(
        id=sale_id,
        currency=currency_code(total[1]),
        total_micros=micros_from_minor_units(*total),
        shown_currency=currency_code(shown[1]),
        shown_micros=micros_from_minor_units(*shown),
        quoted_micros=micros_from_minor_units(*quoted),
        tax_micros=micros_from_minor_units(tax, quoted[1]),
        fee_micros=micros_from_minor_units(fee, quoted[1]),
        discount_micros=micros_from_minor_units(discount, quoted[1]),
    )


def reference_in(metadata: dict[str, str]) -> str | None:
    """The organization's id that we put on Stripe's objects."""
    return metadata.get("org_id") or metadata.get("organization_id")


def is_for_something_else(metadata: dict[str, str]) -> bool:
    """Whether the payment says that it is not for the wallet, such as one of a shop or of a subscription."""
    purpose = metadata.get("purpose")
    return bool(purpose) and purpose not in TOPUP_PURPOSES


def _is_uuid(text: str | None) -> TypeGuard[str]:
    """Whether it has the form of our organizations' ids, as `find_payer` in `sql/` reads them."""
    return text is not None and re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None
