"""What is credited, against an oracle in exact fractions: 5,000 generated sales, by both events in both orders."""

from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any
from uuid import UUID

from billing import inbox
from billing.events import interpret
from billing.payments import Answers, CreditPayment, Question
from tests.payloads import encode
from tests.payments.till import Till, delivery

SALES = 5_000
BATCH = 500
MINOR = {"usd": 10_000, "eur": 10_000, "jpy": 1_000_000, "kwd": 1_000}
"""Micros in a minor unit."""


@dataclass(frozen=True)
class Sold:
    """One sale as Stripe tells of it, in minor units of what it tells."""

    number: int
    currency: str
    """Of the wallet, in which the reseller asks for money."""
    total: int
    tax: int
    fee: int
    discount: int
    received: int
    shown: tuple[int, str] | None
    """Adaptive pricing: what the payer saw."""
    is_legacy: bool
    """Stripe tells of that as it did before 2025-03-31: all in the payer's currency."""
    refunded: tuple[int, ...] = ()
    """What was given back of what arrived."""

    @property
    def payment_id(self) -> str:
        """Its payment intent."""
        return f"pi_sale_{self.number}"

    def events(self, organization_id: UUID) -> list[dict[str, Any]]:
        """Its Checkout Session's event and its payment's."""
        metadata = {"org_id": str(organization_id), "purpose": "checkout_topup"}
        told = self.shown if self.shown and self.is_legacy else (self.total, self.currency)
        session: dict[str, Any] = {
            "id": f"cs_{self.number}",
            "object": "checkout.session",
            "amount_total": told[0],
            "currency": told[1],
            "payment_status": "paid",
            "payment_intent": self.payment_id,
            "metadata": metadata,
            "total_details": {"amount_tax": self.tax, "amount_shipping": self.fee, "amount_discount": self.discount},
        }
        if self.shown and self.is_legacy:
            session["currency_conversion"] = {"amount_total": self.total, "source_currency": self.currency}
        elif self.shown:
            session["presentment_details"] = {
                "presentment_amount": self.shown[0],
                "presentment_currency": self.shown[1],
            }
        intent = {"id": self.payment_id, "amount_received": self.received, "currency": told[1], "metadata": metadata}
        refunds = [
            {
                "id": f"re_{self.number}_{place}",
                "object": "refund",
                "amount": amount,
                "currency": told[1],
                "status": "succeeded",
                "created": 1_796_072_222,
                "payment_intent": self.payment_id,
                "charge": f"ch_{self.number}",
            }
            for place, amount in enumerate(self.refunded)
        ]
        kinds = [("checkout.session.completed", session), ("payment_intent.succeeded", intent)]
        kinds += [("refund.created", refund) for refund in refunds]
        return [
            {
                "id": f"evt_{self.number}_{place}",
                "type": kind,
                "created": 1_796_072_222,
                "livemode": False,
                "data": {"object": content},
            }
            for place, (kind, content) in enumerate(kinds)
        ]

    def left(self) -> int:
        """What the wallet keeps once all refunds are taken, in micros: their sum takes its share, rounded once."""
        expected = self.expected()
        taken = sum(self.refunded) * MINOR[self.currency]
        share = Fraction(expected["credited_micros"] * taken, expected["charged_micros"])
        return expected["credited_micros"] - half_up(share)

    def expected(self) -> dict[str, int]:
        """What the books must say, in micros: each share of what arrived, the parts adding up to the whole."""
        quoted = self.shown[0] if self.shown and self.is_legacy else self.total
        arrived = Fraction(self.received * MINOR[self.currency])
        if self.shown and self.is_legacy:
            arrived = Fraction(self.total * MINOR[self.currency] * self.received, self.shown[0])
        bounds = [arrived * part / quoted for part in (quoted - self.tax - self.fee, quoted - self.fee, quoted)]
        credited, with_tax, charged = (half_up(bound) for bound in bounds)
        return {
            "charged_micros": charged,
            "credited_micros": credited,
            "tax_micros": with_tax - credited,
            "fee_micros": charged - with_tax,
        }


def half_up(amount: Fraction) -> int:
    """To whole micros."""
    return int(amount + Fraction(1, 2))


def generate(random: Random, number: int) -> Sold:
    """A sale of any kind that Stripe knows."""
    currency = random.choice(sorted(MINOR))
    goods = random.randint(50, 2_000_00)
    discount = random.choice([0, 0, random.randint(0, goods // 2)])
    fee = random.choice([0, 0, random.randint(0, 500)])
    rate = random.choice(
        [Fraction(0), Fraction(19, 100), Fraction(77, 1000), Fraction(20, 100), Fraction(8875, 100_000)]
    )
    sold = goods - discount
    if random.random() < 0.5:  # prices include tax
        tax, total = sold - half_up(sold / (1 + rate)), sold + fee
    else:
        tax = half_up(sold * rate)
        total = sold + tax + fee
    is_legacy = random.random() < 0.5
    shown = None
    if random.random() < 0.3:
        other = random.choice(sorted(set(MINOR) - {currency}))
        rate_of_exchange = Fraction(random.randint(500, 2_000), 1_000) * MINOR[currency] / MINOR[other]
        shown = (max(1, half_up(total * rate_of_exchange)), other)
    asked = shown[0] if shown and is_legacy else total
    if shown and is_legacy:
        scale = Fraction(shown[0], total)
        tax, fee, discount = (int(part * scale) for part in (tax, fee, discount))
    captured = asked if random.random() < 0.7 else random.randint(1, asked)
    refunded: tuple[int, ...] = ()
    if not (shown and is_legacy) and random.random() < 0.4:
        refunded = tuple(random.randint(1, captured) for _ in range(random.randint(1, 2)))
        refunded = refunded if sum(refunded) <= captured else refunded[:1]
    return Sold(number, currency, total, tax, fee, discount, captured, shown, is_legacy, refunded)


def is_sold(sale: Sold) -> bool:
    """Whether anything is left beside tax and fee, which is what Stripe's smallest amounts see to."""
    quoted = sale.shown[0] if sale.shown and sale.is_legacy else sale.total
    return sale.tax + sale.fee < quoted and sale.expected()["credited_micros"] > 0


def test_generated_sales_are_credited_to_the_micro(keyless: Till) -> None:
    """Tax within and beside the price, discount, fee, presentment currency in both shapes, partial capture, and
    refunds of a part. Of every other sale the payment is told before its Session, and its refunds before either."""
    wallets = {currency: keyless.wallet(currency=currency.upper()) for currency in MINOR}
    random = Random(20_261_130)
    sales = [sale for number in range(SALES) if is_sold(sale := generate(random, number))]
    for start in range(0, len(sales), BATCH):
        told = [(sale, sale.events(wallets[sale.currency])) for sale in sales[start : start + BATCH]]
        for turn in range(3):
            bodies = []
            for sale, (session, payment, *refunds) in told:
                order = [[session], [payment], refunds] if sale.number % 2 else [refunds, [payment], [session]]
                bodies += [encode(event) for event in order[turn]]
            inbox.accept(keyless.scratch.engine, [delivery(body) for body in bodies])
            keyless.work()

    known = {row["payment_id"]: row for row in keyless.books.rows("SELECT * FROM payments")}
    wrong = [
        (sale, known.get(sale.payment_id))
        for sale in sales
        if any(known.get(sale.payment_id, {}).get(part) != micros for part, micros in sale.expected().items())
    ]
    assert len(sales) > 0.98 * SALES
    assert wrong == []
    assert keyless.states() == {"done"}
    for currency, organization_id in wallets.items():
        assert keyless.books.balance(organization_id) == sum(
            sale.left() for sale in sales if sale.currency == currency
        )
    assert {sale.payment_id: sale.left() for sale in sales} == {
        row["payment_id"]: int(row["micros"])
        for row in keyless.books.rows(
            "SELECT payment_id, sum(CASE WHEN to_account = organization_id THEN 1 ELSE -1 END * amount_micros)"
            " AS micros FROM transfers WHERE wallet_sequence IS NOT NULL GROUP BY payment_id"
        )
    }
    assert keyless.books.broken() == []


def test_answer_of_stripe_says_the_same_as_the_event() -> None:
    """The Session that is asked for is read as the one that is told."""
    random = Random(7)
    sales = [sale for number in range(200) if is_sold(sale := generate(random, number))]
    for sale in sales:
        session, payment, *_ = sale.events(UUID(int=7))
        answers: Answers = {Question("session_of", sale.payment_id): encode({"data": [session["data"]["object"]]})}
        told = interpret("stripe", session["type"], encode(session))
        asked = interpret("stripe", payment["type"], encode(payment), asks=True, answers=answers)

        assert isinstance(told, CreditPayment)
        assert isinstance(asked, CreditPayment)
        assert asked.sale == told.sale
