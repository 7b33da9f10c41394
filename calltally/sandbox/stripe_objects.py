"""Stripe objects of a top-up: Checkout Session and PaymentIntent, at API version 2026-10-28.endive.

Amounts are integers in the currency's minor unit, times are Unix seconds.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from calltally.sandbox.wire import JsonObject

API_VERSION = "2026-10-28.endive"

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Payment:
    """What a customer pays, and the references of ours that travel with it.

    `amount_minor` is the whole, with `tax_minor` and `shipping_minor` within it, `discount_minor` taken off before.
    Prices that include tax have it within their subtotal. `captured_minor`: so much of it was collected, if not all.
    With a presentment currency (adaptive pricing) the customer saw that amount. `invoice`: it pays this one.
    """

    amount_minor: int
    currency: str = "usd"
    customer: str | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    tax_minor: int = 0
    prices_include_tax: bool = False
    discount_minor: int = 0
    shipping_minor: int = 0
    captured_minor: int | None = None
    presentment_minor: int | None = None
    presentment_currency: str = "eur"
    payment_link: str | None = None
    invoice: str | None = None

    @property
    def received_minor(self) -> int:
        """What arrived."""
        return self.amount_minor if self.captured_minor is None else self.captured_minor

    @property
    def presentment(self) -> JsonObject:
        """What the customer saw, as Stripe shows it; the field is absent without adaptive pricing."""
        if self.presentment_minor is None:
            return {}
        seen = {
            "presentment_amount": self.presentment_minor,
            "presentment_currency": self.presentment_currency,
        }
        return {"presentment_details": seen}


def new_stripe_id(prefix: str, random: Random) -> str:
    """Return an id such as `pi_…` with 24 characters after the prefix."""
    return f"{prefix}_{''.join(random.choices(_ALPHABET, k=24))}"


def checkout_session(
    session_id: str, payment_intent_id: str, payment: Payment, created: int, *, paid: bool
) -> JsonObject:
    """Return a completed Checkout Session; a delayed payment method leaves it `unpaid` for now."""
    goods_minor = payment.amount_minor - payment.shipping_minor + payment.discount_minor
    return {
        "id": session_id,
        "object": "checkout.session",
        "amount_subtotal": goods_minor - (0 if payment.prices_include_tax else payment.tax_minor),
        "amount_total": payment.amount_minor,
        "cancel_url": None,
        "client_reference_id": payment.client_reference_id,
        "created": created,
        "currency": payment.currency,
        "customer": payment.customer,
        "expires_at": created + 86_400,
        "livemode": False,
        "metadata": payment.metadata,
        "mode": "payment",
        "payment_intent": payment_intent_id,
        "payment_link": payment.payment_link,
        "payment_method_types": ["card" if paid else "us_bank_account"],
        "payment_status": "paid" if paid else "unpaid",
        "status": "complete",
        "success_url": "https://reseller.example/paid",
        "total_details": {
            "amount_discount": payment.discount_minor,
            "amount_shipping": payment.shipping_minor,
            "amount_tax": payment.tax_minor,
        },
        "url": None,
        **payment.presentment,
    }


def payment_intent(
    payment_intent_id: str, charge_id: str, payment: Payment, created: int, *, succeeded: bool
) -> JsonObject:
    """Return the PaymentIntent after it succeeded, or after a delayed payment was refused.

    Stripe copies no metadata from the Checkout Session; here the reseller sent the same to both.
    """
    refusal = {"type": "card_error", "code": "payment_intent_payment_attempt_failed"}
    return {
        "id": payment_intent_id,
        "object": "payment_intent",
        "amount": payment.amount_minor,
        "amount_received": payment.received_minor if succeeded else 0,
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "created": created,
        "currency": payment.currency,
        "customer": payment.customer,
        "last_payment_error": None if succeeded else refusal,
        "latest_charge": charge_id,
        "livemode": False,
        "metadata": payment.metadata,
        "payment_details": {"order_reference": payment.invoice, "customer_reference": None}
        if payment.invoice
        else None,
        "payment_method": None,
        **payment.presentment,
        "status": "succeeded" if succeeded else "requires_payment_method",
    }


def invoice_payment(payment_intent_id: str, invoice: JsonObject) -> JsonObject:
    """Return what connects a payment with the invoice that it paid."""
    return {
        "id": f"inpay_{payment_intent_id}",
        "object": "invoice_payment",
        "amount_paid": invoice["total"],
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": payment_intent_id, "type": "payment_intent"},
        "status": "paid",
    }


def invoice(invoice_id: str, *, total: int, tax: int = 0, currency: str = "usd", **fields: Any) -> JsonObject:
    """Return a paid invoice; `fields` are Stripe's, such as `metadata` or `parent`."""
    return {
        "id": invoice_id,
        "object": "invoice",
        "amount_paid": total,
        "currency": currency,
        "livemode": False,
        "metadata": {},
        "parent": None,
        "status": "paid",
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total - tax,
        **fields,
    }


def thin_event(event_id: str, twin: JsonObject) -> JsonObject:
    """Return the thin event beside a snapshot event: what changed, without what it is now."""
    changed = twin["data"]["object"]
    folder = RESOURCES[changed["object"]]
    return {
        "id": event_id,
        "object": "v2.core.event",
        "type": f"v1.{twin['type']}",
        "created": f"{datetime.fromtimestamp(twin['created'], UTC):%Y-%m-%dT%H:%M:%S.000Z}",
        "livemode": twin["livemode"],
        "context": None,
        "reason": None,
        "related_object": {
            "id": changed["id"],
            "type": changed["object"],
            "url": f"/v1/{folder}/{changed['id']}",
        },
    }


RESOURCES = {
    "payment_intent": "payment_intents",
    "checkout.session": "checkout/sessions",
    "refund": "refunds",
    "charge": "charges",
    "dispute": "disputes",
    "invoice": "invoices",
}
"""Where objects are found by their id, below `/v1/`."""


def charge(
    charge_id: str, payment_intent_id: str, payment: Payment, created: int, *, refunded_minor: int
) -> JsonObject:
    """Return the charge; `amount_refunded` is cumulative and `refunded` only true once it is everything."""
    return {
        "id": charge_id,
        "object": "charge",
        "amount": payment.amount_minor,
        "amount_captured": payment.amount_minor,
        "amount_refunded": refunded_minor,
        "created": created,
        "currency": payment.currency,
        "customer": payment.customer,
        "livemode": False,
        "metadata": payment.metadata,
        "paid": True,
        "payment_intent": payment_intent_id,
        "refunded": refunded_minor == payment.amount_minor,
        "status": "succeeded",
    }


def refund(
    refund_id: str,
    *,
    charge_id: str,
    payment_intent_id: str,
    amount_minor: int,
    currency: str,
    created: int,
    status: str = "succeeded",
) -> JsonObject:
    """Return a refund; it carries none of the payment's metadata."""
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount_minor,
        "charge": charge_id,
        "created": created,
        "currency": currency,
        "metadata": {},
        "payment_intent": payment_intent_id,
        "reason": "requested_by_customer",
        "status": status,
    }


def dispute(
    dispute_id: str,
    *,
    charge_id: str,
    payment_intent_id: str,
    amount_minor: int,
    currency: str,
    created: int,
    status: str,
    moved_minor: tuple[int, ...],
) -> JsonObject:
    """Return a dispute; `moved_minor` are its balance transactions so far: negative when money was withdrawn."""
    transactions = [
        {
            "id": f"txn_{dispute_id}_{place}",
            "object": "balance_transaction",
            "amount": amount,
            "currency": currency,
            "fee": 1_500 if amount < 0 else 0,
            "net": amount - (1_500 if amount < 0 else 0),
            "type": "adjustment",
        }
        for place, amount in enumerate(moved_minor)
    ]
    return {
        "id": dispute_id,
        "object": "dispute",
        "amount": amount_minor,
        "balance_transactions": transactions,
        "charge": charge_id,
        "created": created,
        "currency": currency,
        "livemode": False,
        "metadata": {},
        "payment_intent": payment_intent_id,
        "reason": "fraudulent",
        "status": status,
    }
