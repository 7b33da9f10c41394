"""What a minute costs, to whom and since when."""

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.errors import ConstraintBroken, UnknownOrganization
from tests.books import Books, told_call

SECOND = 1_000
REUSED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def charged_micros(books: Books, tag: str, seconds: float, **price: Any) -> int:
    """What one call of that length costs an organization with that price."""
    organization_id = books.organization(debt_limit_micros=10**12)
    books.price(organization_id, **price)
    books.route(organization_id, f"a-{tag}")
    amount: int = books.record(told_call(f"c-{tag}", f"a-{tag}", seconds))[0]["amount_micros"]
    return amount


@pytest.mark.parametrize(
    ("seconds", "price", "expected_micros"),
    [
        pytest.param(60, {"per_minute_micros": 700_000}, 700_000, id="one minute"),
        pytest.param(0.001, {"per_minute_micros": 60_000}, 1_000, id="a begun second is a second"),
        pytest.param(1, {"per_minute_micros": 60_000}, 1_000, id="a whole second is no more"),
        pytest.param(6.001, {"per_minute_micros": 60_000, "increment": 6}, 12_000, id="a begun six seconds"),
        pytest.param(61, {"per_minute_micros": 60_000, "increment": 60}, 120_000, id="a begun minute"),
        pytest.param(3, {"per_minute_micros": 60_000, "minimum": 30}, 30_000, id="no less than the minimum"),
        pytest.param(31, {"per_minute_micros": 60_000, "minimum": 30}, 31_000, id="more than the minimum"),
        pytest.param(10, {"per_minute_micros": 60_000, "free": 10}, 0, id="within the free seconds"),
        pytest.param(12, {"per_minute_micros": 60_000, "free": 10}, 2_000, id="beyond the free seconds"),
        pytest.param(12, {"per_minute_micros": 60_000, "free": 10, "minimum": 5}, 5_000, id="free, then minimum"),
        pytest.param(10, {"per_minute_micros": 60_000, "free": 10, "minimum": 5}, 0, id="exactly the free seconds"),
        pytest.param(9, {"per_minute_micros": 60_000, "free": 10, "minimum": 5}, 0, id="free is free of the minimum"),
        pytest.param(1, {"per_minute_micros": 90}, 2, id="half a micro rounds up"),
        pytest.param(1, {"per_minute_micros": 89}, 1, id="less than half rounds down"),
        pytest.param(1, {"per_minute_micros": 0}, 0, id="a price of nothing"),
    ],
)
def test_price_of_call_follows_its_terms(
    shared: Books, tag: str, seconds: float, price: dict[str, int], expected_micros: int
) -> None:
    """Increment, minimum, free seconds and rounding, each at its edge."""
    assert charged_micros(shared, tag, seconds, **price) == expected_micros


@given(
    duration_ms=st.integers(0, 8 * 3600 * SECOND) | st.integers(0, 500).map(lambda seconds: seconds * SECOND),
    per_minute_micros=st.integers(0, 10_000_000),
    increment=st.sampled_from([1, 6, 60]),
    minimum=st.integers(0, 120),
    free=st.integers(0, 120),
)
@REUSED
def test_price_arithmetic_equals_independent_oracle(
    shared: Books, duration_ms: int, per_minute_micros: int, increment: int, minimum: int, free: int
) -> None:
    """For any call and price, SQL bills what exact decimal arithmetic says, rounded once."""
    beyond = Decimal(duration_ms) / SECOND - free
    units = (beyond / increment).to_integral_value(ROUND_CEILING)
    seconds = max(int(units) * increment, minimum) if beyond > 0 else 0
    expected = (Decimal(seconds) * per_minute_micros / 60).quantize(Decimal(1), ROUND_HALF_UP)

    answer = shared.rows(
        "SELECT seconds, billed_amount_micros(seconds, :price) AS micros "
        "FROM billed_seconds(:duration_ms, :increment, :minimum, :free) AS seconds",
        duration_ms=duration_ms,
        price=per_minute_micros,
        increment=increment,
        minimum=minimum,
        free=free,
    )

    assert answer == [{"seconds": seconds, "micros": int(expected)}]


def price_at(books: Books, organization_id: UUID, at: str) -> int | None:
    """The price per minute in force at a time."""
    price: int | None = books.value(
        "SELECT per_minute_micros FROM find_price(:id, 'USD', CAST(:at AS timestamptz))", id=organization_id, at=at
    )
    return price


def test_price_without_own_is_the_default(shared: Books) -> None:
    """An organization without a price of its own pays everybody's."""
    assert price_at(shared, shared.organization(), "2026-07-01Z") == 700_000


def test_price_own_precedes_default_while_valid(shared: Books) -> None:
    """An own price rules from its first instant; before it, the default does."""
    organization_id = shared.organization()
    shared.price(organization_id, 500_000, since="2026-07-01 00:00Z")

    assert price_at(shared, organization_id, "2026-07-01 00:00:00Z") == 500_000
    assert price_at(shared, organization_id, "2026-06-30 23:59:59.999999Z") == 700_000


def test_price_set_in_the_past_ends_where_the_next_begins(shared: Books) -> None:
    """Setting a price in the past splits the range and leaves later prices alone."""
    organization_id = shared.organization()
    shared.price(organization_id, 100_000, since="2026-01-01Z")
    shared.price(organization_id, 300_000, since="2026-03-01Z")
    shared.price(organization_id, 200_000, since="2026-02-01Z")

    months = ["2026-01-15Z", "2026-02-01Z", "2026-02-28Z", "2026-03-01Z"]
    assert [price_at(shared, organization_id, at) for at in months] == [100_000, 200_000, 200_000, 300_000]


def test_price_set_in_the_future_waits(shared: Books, tag: str) -> None:
    """A price from 2030 does not touch a call of today."""
    organization_id = shared.organization()
    shared.price(organization_id, 1, since="2030-01-01Z")
    shared.route(organization_id, f"a-{tag}")

    assert shared.record(told_call(tag, f"a-{tag}", 60))[0]["amount_micros"] == 700_000


def test_price_set_twice_from_the_same_time_replaces(shared: Books, tag: str) -> None:
    """The second setting wins, and a charge made at the first keeps it."""
    organization_id = shared.organization()
    first = shared.price(organization_id, 100_000)
    shared.route(organization_id, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", 60))

    shared.price(organization_id, 200_000)

    assert price_at(shared, organization_id, "2026-07-01Z") == 200_000
    assert shared.charges(organization_id)[0]["price_id"] == first
    assert shared.charges(organization_id)[0]["amount_micros"] == 100_000


def test_price_is_the_one_when_the_call_began(shared: Books, tag: str) -> None:
    """A call across a change of price is charged at the price of its start."""
    organization_id = shared.organization()
    shared.price(organization_id, 60_000, since="2026-07-01 00:00:00Z")
    shared.price(organization_id, 120_000, since="2026-07-01 00:00:30Z")
    shared.route(organization_id, f"a-{tag}")

    assert shared.record(told_call(tag, f"a-{tag}", 60))[0]["amount_micros"] == 60_000


@pytest.mark.parametrize(("since", "micros"), [("00:00:05Z", -60_000), ("00:00:05.000001Z", 0)])
def test_price_charges_the_unpriced_calls_that_began_with_it(
    shared: Books, tag: str, since: str, micros: int
) -> None:
    """Its first instant is its own; a call that began before it still waits."""
    organization_id = shared.value(
        "SELECT create_organization(:name, 'a@example.com', 'NOK')", name=f"Unpriced {tag}"
    )
    shared.route(organization_id, f"a-{tag}")
    assert shared.record(told_call(tag, f"a-{tag}", 60))[0]["outcome"] == "unpriced"
    shared.price(organization_id, 60_000, since=f"2026-07-01 {since}")

    assert shared.balance(organization_id) == micros
    shared.price(organization_id, 60_000)


def test_price_ranges_that_overlap_are_refused(owner: Books) -> None:
    """Even a direct INSERT cannot put two prices in force at once."""
    with pytest.raises(ConstraintBroken, match="prices_do_not_overlap"):
        owner.value(
            "INSERT INTO prices (currency, per_minute_micros, valid) VALUES ('USD', 1, '[2026-01-01, 2026-02-01)')"
        )


@pytest.mark.parametrize("terms", [{"increment": 7}, {"minimum": -1}, {"free": -1}, {"per_minute_micros": -1}])
def test_price_of_senseless_terms_is_refused(shared: Books, terms: dict[str, Any]) -> None:
    """Increments are 1, 6 or 60; nothing is negative."""
    with pytest.raises(ConstraintBroken):
        shared.price(shared.organization(), **({"per_minute_micros": 1} | terms))


def test_price_of_unknown_organization_is_refused(shared: Books) -> None:
    """A price belongs to an organization or to all."""
    with pytest.raises(UnknownOrganization):
        shared.price(UUID(int=7), 1)
