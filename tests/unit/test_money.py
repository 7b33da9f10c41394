"""Amounts between Stripe's minor units, a provider's decimals, what people type, and micros."""

from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import UnreadablePayload
from billing.events import interpret
from billing.money import (
    MAX_UNITS,
    MICROS,
    THREE_DECIMAL,
    ZERO_DECIMAL,
    currency_code,
    format_micros,
    micros_from_decimal,
    micros_from_minor_units,
    parse_amount,
)
from tests.payloads import content, encode

AMOUNTS = st.decimals(-MAX_UNITS, MAX_UNITS, allow_nan=False, allow_infinity=False, places=6)
MICROS_OF_THE_BOOKS = st.integers(-(10**18), 10**18)


def decimals_of(currency: str) -> int:
    """How many decimals Stripe's minor unit has."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


@pytest.mark.parametrize(
    ("amount", "currency", "micros"),
    [
        (500, "usd", 5_000_000),
        (500, "USD", 5_000_000),
        (1, "eur", 10_000),
        (0, "usd", 0),
        (-500, "usd", -5_000_000),
        (500, "jpy", 500_000_000),
        (500, "krw", 500_000_000),
        (5_120, "kwd", 5_120_000),
        (500, "isk", 5_000_000),
        (500, "ugx", 5_000_000),
        (500, "huf", 5_000_000),
        (500, "twd", 5_000_000),
    ],
)
def test_minor_units_of_a_currency_become_its_micros(amount: int, currency: str, micros: int) -> None:
    """Two decimals are the rule; ISK, UGX, HUF and TWD follow it at Stripe, whatever they do elsewhere."""
    assert micros_from_minor_units(amount, currency) == micros


@given(st.integers(-(10**12), 10**12), st.sampled_from([*sorted(ZERO_DECIMAL), *sorted(THREE_DECIMAL), "USD", "ISK"]))
def test_minor_units_of_any_currency_convert_exactly(amount: int, currency: str) -> None:
    """The same as shifting the decimal point."""
    expected = Decimal(amount).scaleb(-decimals_of(currency)) * MICROS

    assert micros_from_minor_units(amount, currency.lower()) == expected


def test_currencies_with_special_decimals_are_in_one_list_only() -> None:
    """No currency has both none and three decimals."""
    assert not ZERO_DECIMAL & THREE_DECIMAL
    assert (len(ZERO_DECIMAL), len(THREE_DECIMAL)) == (15, 5)


@given(AMOUNTS)
def test_decimal_with_six_places_converts_exactly(amount: Decimal) -> None:
    """Micros hold six decimals without rounding."""
    assert Decimal(micros_from_decimal(amount)) / MICROS == amount


@given(st.decimals(-1_000, 1_000, allow_nan=False, allow_infinity=False, places=40))
def test_decimal_with_many_places_is_rounded_once_and_half_away_from_zero(amount: Decimal) -> None:
    """Rounding first to the precision of the context and then to micros would round twice."""
    with localcontext() as context:
        context.prec = 100
        expected = int((amount * MICROS).to_integral_value(ROUND_HALF_UP))

    assert micros_from_decimal(amount) == expected


@pytest.mark.parametrize(
    ("amount", "micros"),
    [
        ("0.1884", 188_400),
        ("1.83e-5", 18),
        ("0.0000005", 1),
        ("-0.0000005", -1),
        ("0.00000049", 0),
        ("0.00000049999999999999999999999999999999999", 0),
        ("0", 0),
        ("-0", 0),
        ("1000000000000", 10**18),
    ],
)
def test_decimal_of_a_provider_becomes_micros(amount: str, micros: int) -> None:
    """Costs of Vapi have four decimals, their parts more."""
    assert micros_from_decimal(Decimal(amount)) == micros


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity", "1e13", "-1e13", "1e400", "1e999999"])
def test_decimal_that_is_no_amount_of_money_is_refused(amount: str) -> None:
    """Neither a crash later nor a number with a million digits."""
    with pytest.raises(ValueError, match=r"not an amount|sNaN"):
        micros_from_decimal(Decimal(amount))


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("5", 5_000_000),
        ("5.00", 5_000_000),
        ("5.", 5_000_000),
        (".5", 500_000),
        (" 5.00 ", 5_000_000),
        ("+5", 5_000_000),
        ("-5", -5_000_000),
        ("0.0079", 7_900),
        ("0.000001", 1),
        ("5.0000000000", 5_000_000),
        ("1000000000000", 10**18),
    ],
)
def test_amount_that_a_person_typed_is_read(text: str, micros: int) -> None:
    """Currency units, with as many decimals as say something."""
    assert parse_amount(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            ".",
            "-",
            "five",
            "5 USD",
            "$5",
            "5,00",
            "1,000.00",
            "1_000",
            "1e3",
            "0x10",
            "\uff15",
            "\u0665",
            "5\x00",
        ),
        *("NaN", "Infinity", "--5", "5.0.0", "0.0000001", "5.0000000000000000000000000000000001"),
        *("1000000000001", "9" * 5_000),
    ],
)
def test_amount_that_is_none_is_refused_with_how_to_write_one(text: str) -> None:
    """Nothing is guessed: no thousands separators, exponents, other digits, or fractions of a micro."""
    with pytest.raises(ValueError, match=r"^'.*' is "):
        parse_amount(text)


@given(AMOUNTS)
def test_amount_written_as_a_decimal_is_read_back(amount: Decimal) -> None:
    """What Decimal prints in full is read as the same amount."""
    assert Decimal(parse_amount(f"{amount:f}")) == amount * MICROS


@pytest.mark.parametrize(
    ("micros", "currency", "text"),
    [
        (5_000_000, "USD", "$5.00"),
        (-7_900, "USD", "-$0.0079"),
        (0, "USD", "$0.00"),
        (1, "USD", "$0.000001"),
        (1_234_567_890_000, "USD", "$1,234,567.89"),
        (5_100_000, "EUR", "€5.10"),
        (5_100_000, "GBP", "£5.10"),
        (5_120_000, "KWD", "5.12 KWD"),
        (-500_000_000, "JPY", "-500.00 JPY"),
    ],
)
def test_micros_are_shown_with_two_decimals_or_as_many_as_say_something(
    micros: int, currency: str, text: str
) -> None:
    """People read money, not micros."""
    assert format_micros(micros, currency) == text


@given(MICROS_OF_THE_BOOKS)
def test_micros_shown_to_a_person_can_be_typed_back(micros: int) -> None:
    """Showing loses nothing."""
    assert parse_amount(format_micros(micros).replace("$", "").replace(",", "")) == micros


@given(MICROS_OF_THE_BOOKS, MICROS_OF_THE_BOOKS)
def test_different_micros_look_different(one: int, other: int) -> None:
    """No two amounts are shown alike."""
    assert (format_micros(one) == format_micros(other)) == (one == other)


@pytest.mark.parametrize(
    "text", ["u\u017fd", "\uff35\uff33\uff24", "us", "usdt", "us1", "", " usd", "usd\n", "\u0131sk"]
)
def test_text_that_only_becomes_a_currency_in_capitals_is_none(text: str) -> None:
    """A long s, a full-width letter, a dotless i: no wallet holds such, so nothing is credited by it."""
    with pytest.raises(ValueError, match="is no currency"):
        currency_code(text)
    with pytest.raises(ValueError, match="is no currency"):
        micros_from_minor_units(100, text)


@pytest.mark.parametrize("change", [{"currency": "u\u017fd"}, {"id": ""}, {"id": " "}])
def test_payment_without_a_currency_or_an_id_is_credited_to_nobody(change: dict[str, str]) -> None:
    """Its event is kept, dead, and told."""
    event = content("stripe", "payment_intent.succeeded")
    event["data"]["object"] |= change

    with pytest.raises(UnreadablePayload):
        interpret("stripe", "payment_intent.succeeded", encode(event))
