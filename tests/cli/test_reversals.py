"""Refunds and disputes by hand, and the story of a payment."""

from uuid import UUID

import pytest
from sqlalchemy import Engine

from billing import applying, inbox
from billing.deliveries import identify_stripe
from tests.books import Books, Row, moved
from tests.payloads import content, encode

from .conftest import Calltally


@pytest.fixture
def paid(books: Books) -> UUID:
    """An organization that paid 100 dollars."""
    organization_id = books.organization("Acme")
    books.credit(organization_id, 100_000_000, "topup:pi_1")
    return organization_id


Case = tuple[str, list[str], Row]
REFUND: Case = ("re_1", [], moved("pi_1", "re_1", -60_000_000))
DISPUTE: Case = ("txn_1", ["--dispute", "dp_1"], moved("pi_1", "txn_1", -60_000_000, "dp_1"))
NAMED: Case = ("dp_1", [], moved("pi_1", "txn_1", -60_000_000, "dp_1"))


@pytest.mark.parametrize(("name", "options", "told"), [REFUND, DISPUTE, NAMED], ids=["refund", "txn", "dispute"])
@pytest.mark.parametrize("hand_first", [True, False])
def test_reversal_by_hand_and_by_event_is_one(
    calltally: Calltally,
    books: Books,
    paid: UUID,
    name: str,
    options: list[str],
    told: dict[str, object],
    hand_first: bool,
) -> None:
    """Whichever comes first, and both of them twice."""
    if not hand_first:
        books.tell(told)
    for _ in range(2):
        answer = calltally("payments", "reverse", "pi_1", name, "60.00", *options, "--json")
        assert (answer.exit_code, answer.json["outcome"]) == (0, "booked")
        books.tell(told)

    assert books.balance(paid) == 40_000_000
    assert books.broken() == []


@pytest.mark.parametrize(("name", "options"), [("re_1", []), ("dp_1", [])])
def test_reversal_by_hand_comes_back_by_hand(
    calltally: Calltally, books: Books, paid: UUID, name: str, options: list[str]
) -> None:
    """A refund that failed, a dispute that was won."""
    for more in ([], ["--returned"]):
        calltally("payments", "reverse", "pi_1", name, "60.00", *options, *more)

    assert books.balance(paid) == 100_000_000


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["pi_2", "re_1", "1"], "wallet credit"),
        (["pi_1", "txn_1", "1"], "--dispute"),
        (["pi_1", "in_1", "1"], "re_"),
    ],
)
def test_reversal_that_cannot_be_meant_is_refused_with_advice(
    calltally: Calltally, books: Books, paid: UUID, arguments: list[str], advice: str
) -> None:
    """Nothing is noted of it."""
    answer = calltally("payments", "reverse", *arguments)

    assert advice in str(answer.error)
    assert books.value("SELECT count(*) FROM movements") == 0


def test_reversal_with_other_facts_than_stripe_told_is_refused(
    calltally: Calltally, books: Books, paid: UUID
) -> None:
    """A mistyped amount is no second refund."""
    books.refund("pi_1", "re_1", 60_000_000)

    assert "other facts" in str(calltally("payments", "reverse", "pi_1", "re_1", "6.00").error)
    assert books.balance(paid) == 40_000_000


def test_advice_for_a_refund_in_another_currency_solves_it(
    calltally: Calltally, books: Books, engine: Engine, paid: UUID
) -> None:
    """The payment was exchanged by hand; so is its refund, as the runbook says, and its event goes on by itself."""
    refund = content("stripe", "refund.created")
    refund["data"]["object"] |= {"status": "succeeded", "currency": "eur", "payment_intent": "pi_1", "id": "re_1"}
    inbox.accept(engine, [identify_stripe(encode(refund))])
    applying.apply(engine, inbox.claim(engine, "w", 10))
    waiting = calltally("events", "list", "--state", "parked", "--json").json
    calltally("payments", "reverse", "pi_1", "re_1", "45.36")
    applying.apply(engine, inbox.claim(engine, "w", 10))

    assert [event["reason"] for event in waiting] == ["currency_mismatch:pi_1"]
    assert calltally("events", "list", "--state", "parked", "--json").json == []
    assert books.balance(paid) == 54_640_000


@pytest.mark.parametrize("name", ["pi_1", "topup:pi_1", "txn_1", "dp_1", "dispute:txn_1"])
def test_payment_is_explained_by_any_of_its_names(calltally: Calltally, books: Books, paid: UUID, name: str) -> None:
    """What was sold, what moved, what is booked, and that it is right."""
    books.tell(moved("pi_1", "txn_1", -101_240_000, "dp_1"))
    answer = calltally("explain", name, "--json")
    assert answer.error is None
    story = answer.json

    assert story["payment"]["credited_micros"] == 100_000_000
    assert [movement["id"] for movement in story["movements"]] == ["txn_1"]
    assert [(row["out_of"], row["into_account"], row["amount_micros"]) for row in story["transfers"]] == [
        ("stripe", "wallet", 100_000_000),
        ("wallet", "disputes", 100_000_000),
        ("adjustments", "disputes", 1_240_000),
    ]
    assert story["verdict"]["matches"]
    shown = calltally("explain", name)
    assert (shown.exit_code, "txn_1" in shown.output) == (0, True)


def test_payment_that_nobody_knows_is_not_explained(calltally: Calltally) -> None:
    """The message says where to look."""
    assert "backfill" in str(calltally("explain", "pi_unknown").error)
