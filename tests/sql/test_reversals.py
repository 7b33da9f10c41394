"""Refunds and disputes as Stripe tells of them: in any order, more than once, and ahead of their payment."""

import itertools
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from billing.errors import IdempotencyConflict, InvalidAmount
from tests.books import Books, Row


def step(reversal_id: str, what: str, payment_id: str, amount_micros: int, kind: str = "refund") -> Row:
    """One step of a refund or dispute as record_reversals is told of it."""
    return {
        "id": reversal_id,
        "kind": kind,
        "step": what,
        "payment_id": payment_id,
        "amount_micros": amount_micros,
        "currency": "USD",
        "event_at": "2026-07-01T00:00:00Z",
    }


def tell(books: Books, *steps: Row) -> dict[str, tuple[str, str | None]]:
    """Outcome and reason by id."""
    answers = books.rows("SELECT * FROM record_reversals(CAST(:told AS jsonb))", told=Jsonb(list(steps)))
    return {row["reversal_id"]: (row["outcome"], row["reason"]) for row in answers}


def kinds(books: Books, payment_id: str) -> list[tuple[str, int]]:
    """What moved for a payment."""
    found = books.rows("SELECT kind, amount_micros FROM transfers WHERE payment_id = :id", id=payment_id)
    return sorted((row["kind"], row["amount_micros"]) for row in found)


def test_refund_told_twice_is_booked_once(shared: Books, tag: str) -> None:
    """`refund.created` and `refund.updated` carry the same refund."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    refund = step(f"re-{tag}", "taken", tag, 4_000_000)

    assert tell(shared, refund, refund) == {f"re-{tag}": ("booked", None)}
    assert tell(shared, refund) == {f"re-{tag}": ("booked", None)}
    assert shared.balance(organization_id) == 6_000_000


def test_refund_ahead_of_its_payment_waits_and_is_booked_with_it(shared: Books, tag: str) -> None:
    """The credit books it, as a movement of its own after it."""
    refund = step(f"re-{tag}", "taken", tag, 4_000_000)
    ahead = tell(shared, refund)
    organization_id = shared.organization()
    answer = shared.credit(organization_id, 10_000_000, f"topup:{tag}")

    assert ahead == {f"re-{tag}": ("parked", f"payment_not_credited:{tag}")}
    assert answer["balance_after_micros"] == 10_000_000
    assert shared.balance(organization_id) == 6_000_000
    assert tell(shared, refund) == {f"re-{tag}": ("booked", None)}


def test_refund_that_failed_gives_back_and_settles_what_is_owed(shared: Books, tag: str) -> None:
    """The money is the organization's again."""
    organization_id = shared.organization(debt_limit_micros=0)
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    tell(shared, step(f"re-{tag}", "taken", tag, 10_000_000))
    shared.deduct(organization_id, tag, 1_000_000)
    tell(shared, step(f"re-{tag}", "returned", tag, 10_000_000))

    assert shared.balance(organization_id) == 9_000_000
    assert shared.states(organization_id) == {f"call:{tag}": "settled"}
    assert shared.transfers(organization_id)[2]["idempotency_key"] == f"refund:re-{tag}:returned"


def test_refund_that_never_succeeded_moves_nothing(shared: Books, tag: str) -> None:
    """Pending, then failed: its failure alone is told."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")

    assert tell(shared, step(f"re-{tag}", "returned", tag, 4_000_000)) == {f"re-{tag}": ("noted", None)}
    assert shared.balance(organization_id) == 10_000_000


def test_reversal_beyond_the_payment_waits_for_room(shared: Books, tag: str) -> None:
    """A refund and a dispute of the whole payment: the second is booked once the first has come back."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    tell(shared, step(f"re-{tag}", "taken", tag, 10_000_000))
    beyond = tell(shared, step(f"dp-{tag}", "taken", tag, 10_000_000, "dispute"))
    tell(shared, step(f"re-{tag}", "returned", tag, 10_000_000))

    assert beyond == {f"dp-{tag}": ("parked", f"exceeds_payment:{tag}")}
    assert kinds(shared, tag) == [
        ("dispute", 10_000_000),
        ("refund", 10_000_000),
        ("reinstatement", 10_000_000),
        ("topup", 10_000_000),
    ]
    assert shared.balance(organization_id) == 0


def test_reversal_that_returns_more_than_it_took_waits(shared: Books, tag: str) -> None:
    """What was taken is booked; what cannot be is kept for a person to look at."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    answer = tell(
        shared,
        step(f"dp-{tag}", "returned", tag, 5_000_001, "dispute"),
        step(f"dp-{tag}", "taken", tag, 5_000_000, "dispute"),
    )

    assert answer == {f"dp-{tag}": ("parked", f"exceeds_payment:{tag}")}
    assert shared.balance(organization_id) == 5_000_000


def test_reversal_in_another_currency_waits(shared: Books, tag: str) -> None:
    """Nothing is exchanged here."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")

    answer = tell(shared, {**step(f"re-{tag}", "taken", tag, 1), "currency": "EUR"})

    assert answer == {f"re-{tag}": ("parked", "currency_mismatch")}


@pytest.mark.parametrize("change", [{"amount_micros": 2}, {"payment_id": "pi_other"}, {"kind": "dispute"}])
def test_reversal_told_with_other_facts_conflicts(shared: Books, tag: str, change: dict[str, Any]) -> None:
    """A refund has one amount and one payment."""
    refund = step(f"re-{tag}", "taken", tag, 1)
    tell(shared, refund)

    with pytest.raises(IdempotencyConflict):
        tell(shared, refund | change)


@pytest.mark.parametrize(
    ("payment", "amount_micros"),
    [pytest.param("", 4_000_000, id="amount"), pytest.param("-2", 5_000_000, id="payment")],
)
def test_refund_booked_by_hand_with_other_facts_conflicts(
    shared: Books, tag: str, payment: str, amount_micros: int
) -> None:
    """Stripe's own refund does not pass for booked: somebody mistyped its amount, or its payment."""
    organization_id = shared.organization()
    for paid in (tag, f"{tag}-2"):
        shared.credit(organization_id, 10_000_000, f"topup:{paid}")
    shared.take_back("refund_payment", f"{tag}{payment}", f"re-{tag}", amount_micros)

    with pytest.raises(IdempotencyConflict):
        tell(shared, step(f"re-{tag}", "taken", tag, 5_000_000))


def test_return_booked_by_hand_with_other_amount_conflicts(shared: Books, tag: str) -> None:
    """What came back of a dispute is compared like what was taken."""
    shared.credit(shared.organization(), 10_000_000, f"topup:{tag}")
    tell(shared, step(f"dp-{tag}", "taken", tag, 6_000_000, "dispute"))
    shared.take_back("reinstate_dispute", f"dp-{tag}", 600_000)

    with pytest.raises(IdempotencyConflict):
        tell(shared, step(f"dp-{tag}", "returned", tag, 6_000_000, "dispute"))


def test_reversal_booked_by_hand_as_told_is_booked(shared: Books, tag: str) -> None:
    """By hand first, with the same facts, or in the wallet's currency what Stripe tells in another."""
    shared.credit(shared.organization(), 10_000_000, f"topup:{tag}")
    for reversal_id in (f"re-{tag}", f"re-{tag}-eur"):
        shared.take_back("refund_payment", tag, reversal_id, 4_000_000)
    shared.take_back("return_refund", f"re-{tag}", 4_000_000)

    answers = tell(
        shared,
        step(f"re-{tag}", "taken", tag, 4_000_000),
        step(f"re-{tag}", "returned", tag, 4_000_000),
        {**step(f"re-{tag}-eur", "taken", tag, 3_500_000), "currency": "EUR"},
    )

    assert answers == {f"re-{tag}": ("booked", None), f"re-{tag}-eur": ("booked", None)}


def test_reversal_that_waits_is_not_booked_by_hand_with_other_facts(shared: Books, tag: str) -> None:
    """Stripe's word is known by then, and stays what is booked when the payment comes."""
    tell(shared, step(f"re-{tag}", "taken", tag, 5_000_000))
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}-2")
    with pytest.raises(IdempotencyConflict):
        shared.take_back("refund_payment", f"{tag}-2", f"re-{tag}", 4_000_000)
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")

    assert shared.balance(organization_id) == 15_000_000


@pytest.mark.parametrize("change", [{"amount_micros": 0}, {"amount_micros": None}, {"event_at": None}])
def test_reversal_without_amount_or_time_is_refused(shared: Books, tag: str, change: dict[str, Any]) -> None:
    """Nothing is kept of it."""
    with pytest.raises(InvalidAmount):
        tell(shared, step(f"re-{tag}", "taken", tag, 1) | change)


@pytest.mark.parametrize("every", [24, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_orders_of_a_payments_story_all_end_in_the_same_books(database_url: str, books: Books, every: int) -> None:
    """A credit, a refund that fails, one after it, and a dispute that is won; half of each order is told twice."""
    organization_id = books.organization()
    credit = "SELECT * FROM credit_wallet(%s, 10000000, 'topup:pi')"
    story: list[Row | None] = [
        None,  # the credit
        step("re_1", "taken", "pi", 10_000_000),
        step("re_1", "returned", "pi", 10_000_000),
        step("re_2", "taken", "pi", 10_000_000),
        step("dp", "taken", "pi", 7_000_000, "dispute"),
        step("dp", "returned", "pi", 7_000_000, "dispute"),
    ]
    results: set[tuple[Any, ...]] = set()
    with psycopg.connect(database_url, options="-c role=calltally_app") as connection:
        for order in [*itertools.permutations(story)][::every]:
            for told in (*order, *order[:3]):
                if told is None:
                    connection.execute(credit, [organization_id])
                else:
                    connection.execute("SELECT * FROM record_reversals(%s)", [Jsonb([told])])
            results.add(ended(connection))
            connection.rollback()

    assert len(results) == 1
    (transfers, states, balance, broken) = results.pop()
    assert (len(transfers), states, balance, broken) == (6, (("booked",),), ((0,),), ())


def ended(connection: psycopg.Connection) -> tuple[tuple[Any, ...], ...]:
    """Transfers, what became of refunds and disputes, balance, and what is broken."""
    queries = (
        "SELECT idempotency_key, amount_micros FROM transfers ORDER BY 1",
        "SELECT DISTINCT outcome FROM reversal_states",
        "SELECT balance_micros FROM wallets",
        "SELECT * FROM check_books()",
    )
    return tuple(tuple(connection.execute(query.encode()).fetchall()) for query in queries)
