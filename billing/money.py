"""Money is integer micros, a millionth of the currency unit: 5 000 000 is $5.00."""

import re
from decimal import ROUND_HALF_UP, Decimal

MICROS = 1_000_000
ONE_MICRO = Decimal("0.000001")
CURRENCY = re.compile(r"[A-Za-z]{3}")
MAX_UNITS = Decimal(1_000_000_000_000)
"""A million million of any currency; in micros that is well within a bigint."""
WRITTEN_AMOUNT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")

# Stripe's minor units, https://docs.stripe.com/currencies: most currencies have two decimals. ISK and UGX are written
# with two although they have none in daily life, so they are not listed here.
ZERO_DECIMAL = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
THREE_DECIMAL = {"BHD", "JOD", "KWD", "OMR", "TND"}

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}


def currency_code(text: str) -> str:
    """An ISO code in capitals, of a text in either case.

    Raises:
        ValueError: no currency. Letters beyond ASCII that become such in capitals, as a long s does, are none either.
    """
    if CURRENCY.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no currency: write its ISO code, for example USD or EUR")
    return text.upper()


def micros_from_minor_units(amount: int, currency: str) -> int:
    """Stripe's integer amount in micros; always exact. `currency` in either case.

    Raises:
        ValueError: no currency.
    """
    code = currency_code(currency)
    if code in ZERO_DECIMAL:
        return amount * MICROS
    return amount * (MICROS // 1000 if code in THREE_DECIMAL else MICROS // 100)


def micros_from_decimal(amount: Decimal) -> int:
    """A provider's decimal amount in micros, halves away from zero; exact up to six decimals.

    Raises:
        ValueError: not finite, or more than the books can hold.
    """
    if not amount.is_finite() or abs(amount) > MAX_UNITS:
        raise ValueError(f"{amount} is not an amount of money")
    return int(amount.quantize(ONE_MICRO, ROUND_HALF_UP) * MICROS)


def parse_amount(text: str) -> int:
    """An amount that a person typed, in currency units: `5`, `5.00`, `0.0079`.

    Raises:
        ValueError: not a number, finer than a micro, or more than the books can hold.
    """
    if WRITTEN_AMOUNT.fullmatch(text.strip()) is None:
        raise ValueError(f"{text!r} is not an amount: write currency units with up to six decimals, for example 5.00")
    amount = Decimal(text.strip())
    if abs(amount) > MAX_UNITS:
        raise ValueError(f"{text!r} is more than the books can hold")
    if amount.quantize(ONE_MICRO) != amount:
        raise ValueError(f"{text!r} is finer than a millionth: write up to six decimals, for example 5.00")
    return int(amount * MICROS)


def format_micros(micros: int, currency: str = "USD") -> str:
    """For people: two decimals, more only where they say something: `$5.00`, `-$0.0079`."""
    amount = (Decimal(abs(micros)) / MICROS).quantize(Decimal("0.000001"))
    whole, _, decimals = f"{amount:,f}".partition(".")
    decimals = decimals.rstrip("0").ljust(2, "0")
    sign = "-" if micros < 0 else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{whole}.{decimals}" if symbol else f"{sign}{whole}.{decimals} {currency}"
