"""What refunds and disputes of one payment come to, reckoned apart from the books: in fractions, over the whole set.

Nothing here is taken from `sql/`: it says the rule again, for tests to hold the books against.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from tests.books import Row


@dataclass(frozen=True)
class Sale:
    """What a payment brought, in micros of its currency."""

    charged: int
    tax: int = 0
    fee: int = 0
    currency: str = "USD"

    @property
    def credited(self) -> int:
        """The wallet's."""
        return self.charged - self.tax - self.fee


@dataclass(frozen=True)
class Outcome:
    """What has left the wallet, the tax and the fees, and what more Stripe took than there was."""

    wallet: int = 0
    tax: int = 0
    fee: int = 0
    excess: int = 0


def rounded(exact: Fraction) -> int:
    """To the nearest micro, halves away from zero."""
    whole = (abs(exact) + Fraction(1, 2)).__floor__()
    return whole if exact >= 0 else -whole


def outcome(sale: Sale, told: Iterable[Row]) -> Outcome:
    """Of the movements that were told in any order, each perhaps several times."""
    by_source: dict[str, dict[str, Row]] = {}
    for movement in told:
        if movement["event_at"] is not None:
            by_source.setdefault(movement["source_id"], {})[movement["id"]] = movement
    nets = [_net(sale, list(movements.values())) for movements in by_source.values()]
    taken = min(sale.charged, sum(max(0, net) for net in nets))
    wallet = rounded(Fraction(sale.credited * taken, sale.charged))
    with_tax = rounded(Fraction((sale.credited + sale.tax) * taken, sale.charged))
    return Outcome(wallet, with_tax - wallet, taken - with_tax, sum(nets) - taken)


def _net(sale: Sale, movements: list[Row]) -> int:
    """What one refund or dispute took, less what it gave back; nothing as long as nothing was taken."""
    if all(movement["amount_micros"] > 0 for movement in movements):
        return 0
    exact = [m for m in movements if not m["id"].startswith(f"{m['source_id']}:") or m["kind"] == "refund"]
    signs = {m["amount_micros"] > 0 for m in exact}
    counted = [m for m in movements if m in exact or (m["amount_micros"] > 0) not in signs]
    stakes = [m["disputed_micros"] for m in movements if m["disputed_currency"] == sale.currency]
    at_stake = max(stakes, default=sale.charged)
    net = 0
    for currency in {m["currency"] for m in counted}:
        moved = [m for m in counted if m["currency"] == currency]
        sum_micros = -sum(m["amount_micros"] for m in moved)
        if currency == sale.currency:
            net += sum_micros
            continue
        withdrawn = [m for m in moved if m["amount_micros"] < 0]
        if withdrawn:
            first = min(withdrawn, key=lambda m: (m["event_at"], m["amount_micros"], m["id"]))
            net += rounded(Fraction(at_stake * sum_micros, -first["amount_micros"]))
    return net
