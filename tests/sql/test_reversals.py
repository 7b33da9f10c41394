"""Refunds and disputes in the books: in any order, more than once, and ahead of their payment."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from billing.errors import IdempotencyConflict, InvalidAmount
from tests.books import Books, Row, moved

from .reversal_oracle import Outcome, Sale, outcome

BOOKED = ("booked", None)


def credit(connection: psycopg.Connection, organization_id: UUID, payment_id: str, sale: Sale) -> None:
    """Credit a payment of which taxes and fees are no credit, whatever decides that; as the owner of the books."""
    connection.execute(
        "INSERT INTO payments (payment_id, organization_id, currency, charged_micros, credited_micros, tax_micros,"
        " fee_micros) VALUES (%s, %s, 'USD', %s, %s, %s, %s)",
        [payment_id, organization_id, sale.charged, sale.credited, sale.tax, sale.fee],
    )
    for kind, into, micros in (("tax", "tax", sale.tax), ("fee", "fees", sale.fee)):
        connection.execute(
            "SELECT book_own_transfer(%s, 'stripe', %s, %s, 'USD', %s, %s, now(), %s) WHERE %s > 0",
            [organization_id, into, micros, kind, f"{kind}:{payment_id}", payment_id, micros],
        )
    if sale.credited:
        connection.execute(
            "SELECT * FROM credit_wallet(%s, %s, %s)", [organization_id, sale.credited, f"topup:{payment_id}"]
        )
    else:
        connection.execute("SELECT book_reversals(%s)", [payment_id])


@pytest.fixture
def sell(shared: Books, shared_url: str, tag: str) -> Callable[[Sale], UUID]:
    """Makes an organization that bought this with payment `tag`."""

    def sold(sale: Sale) -> UUID:
        organization_id = shared.organization()
        with psycopg.connect(shared_url) as connection:
            credit(connection, organization_id, tag, sale)
        return organization_id

    return sold


@pytest.fixture
def paid(shared: Books, tag: str) -> UUID:
    """An organization that paid 10 dollars with payment `tag`."""
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    return organization_id


def account(books: Books, payment_id: str, kind: str) -> int:
    """What an account of the reseller's got by one payment and its refunds and disputes."""
    return int(
        books.value(
            "SELECT coalesce(sum(CASE own_account(:kind, currency) WHEN to_account THEN amount_micros"
            " WHEN from_account THEN -amount_micros ELSE 0 END), 0) FROM transfers WHERE payment_id = :id",
            kind=kind,
            id=payment_id,
        )
    )


def test_refund_is_booked_once_even_past_the_limit(shared: Books, tag: str, paid: UUID) -> None:
    """`refund.created` and `refund.updated` carry the same refund; the money is gone, whatever the limit says."""
    shared.deduct(paid, tag, 15_000_000)

    assert [shared.refund(tag, f"re-{tag}", 10_000_000) for _ in range(2)] == [BOOKED, BOOKED]
    assert shared.balance(paid) == -15_000_000
    assert [row["idempotency_key"] for row in shared.transfers(paid)][2:] == [f"refund:re-{tag}"]


def test_refund_ahead_of_its_payment_waits_and_is_booked_with_it(shared: Books, tag: str) -> None:
    """The credit books it, as a movement of its own after it."""
    ahead = shared.refund(tag, f"re-{tag}", 4_000_000)
    organization_id = shared.organization()
    answer = shared.credit(organization_id, 10_000_000, f"topup:{tag}")

    assert ahead == ("parked", f"payment_not_credited:{tag}")
    assert answer["balance_after_micros"] == 10_000_000
    assert shared.balance(organization_id) == 6_000_000
    assert shared.refund(tag, f"re-{tag}", 4_000_000) == BOOKED


def test_refund_that_failed_gives_back_and_settles_what_is_owed(shared: Books, tag: str) -> None:
    """The money is the organization's again."""
    organization_id = shared.organization(debt_limit_micros=0)
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")
    shared.refund(tag, f"re-{tag}", 10_000_000)
    shared.deduct(organization_id, tag, 1_000_000)
    shared.tell(moved(tag, f"re-{tag}:returned", 10_000_000))

    assert shared.balance(organization_id) == 9_000_000
    assert shared.states(organization_id) == {f"call:{tag}": "settled"}
    assert shared.transfers(organization_id)[2]["idempotency_key"] == f"refund:re-{tag}:returned"


def test_refund_that_never_succeeded_moves_nothing(shared: Books, tag: str, paid: UUID) -> None:
    """Announced, then failed: whichever is told first."""
    announced = shared.tell(moved(tag, f"re-{tag}", -4_000_000, event_at=None))
    failed = shared.tell(moved(tag, f"re-{tag}:returned", 4_000_000))
    again = shared.tell(moved(tag, f"re-{tag}", -4_000_000, event_at=None))

    assert {**announced, **failed, **again} == dict.fromkeys(again | failed, ("noted", None))
    assert shared.balance(paid) == 10_000_000


def test_refund_that_was_announced_is_booked_when_it_succeeds(shared: Books, tag: str, paid: UUID) -> None:
    """And stays booked if the announcement comes late."""
    announced = moved(tag, f"re-{tag}", -4_000_000, event_at=None)
    told = [shared.tell(announced), shared.tell(moved(tag, f"re-{tag}", -4_000_000)), shared.tell(announced)]

    assert [answer[f"re-{tag}"][0] for answer in told] == ["noted", "booked", "booked"]
    assert shared.balance(paid) == 6_000_000


def test_refund_takes_the_share_that_was_credited(shared: Books, tag: str, sell: Callable[[Sale], UUID]) -> None:
    """120 gross with 20 tax: a refund of 60 takes 50 from the wallet and 10 from the tax."""
    organization_id = sell(Sale(120_000_000, tax=20_000_000))
    shared.refund(tag, f"re-{tag}", 60_000_000)

    assert shared.balance(organization_id) == 50_000_000
    assert [account(shared, tag, kind) for kind in ("tax", "stripe", "refunds")] == [
        10_000_000,
        -110_000_000,
        50_000_000,
    ]


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_a_refund_sum_to_the_whole_in_any_order(
    shared: Books, tag: str, sell: Callable[[Sale], UUID], seed: int
) -> None:
    """However odd the parts: rounding is cumulative, so that nothing stays behind."""
    chance = random.Random(seed)
    charged = chance.randrange(3, 20_000) * 10_000
    tax = chance.randrange(0, charged // 2)
    sale = Sale(charged, tax=tax, fee=chance.randrange(0, charged - tax))
    organization_id = sell(sale)
    cuts = sorted(chance.sample(range(1, charged), k=min(5, charged - 1)))
    parts = [high - low for low, high in itertools.pairwise([0, *cuts, charged])]
    chance.shuffle(parts)
    for number, part in enumerate(parts):
        shared.refund(tag, f"re-{tag}-{number}", part)
        told = [moved(tag, f"re-{n}", -micros) for n, micros in enumerate(parts[: number + 1])]
        assert shared.balance(organization_id) == sale.credited - outcome(sale, told).wallet

    assert shared.balance(organization_id) == 0
    assert [account(shared, tag, kind) for kind in ("tax", "fees")] == [0, 0]


def test_dispute_larger_than_its_payment_takes_all_and_the_excess_is_the_resellers(
    shared: Books, tag: str, sell: Callable[[Sale], UUID]
) -> None:
    """And when it is won, everything is back, once."""
    organization_id = sell(Sale(100_000_000))
    taken = moved(tag, f"txn-{tag}-1", -101_240_000, f"dp-{tag}")
    shared.tell(taken)
    lost = (shared.balance(organization_id), account(shared, tag, "disputes"), account(shared, tag, "adjustments"))
    for _ in range(2):
        shared.tell(taken, moved(tag, f"txn-{tag}-2", 101_240_000, f"dp-{tag}"))

    assert lost == (0, 101_240_000, -1_240_000)
    assert shared.balance(organization_id) == 100_000_000
    assert (account(shared, tag, "disputes"), account(shared, tag, "adjustments")) == (0, 0)


def test_dispute_after_a_partial_refund_takes_what_is_left(
    shared: Books, tag: str, sell: Callable[[Sale], UUID]
) -> None:
    """What comes back fills the excess first, since it is all that Stripe took beyond the payment."""
    organization_id = sell(Sale(100_000_000))
    balances = []
    for told in (
        moved(tag, f"re-{tag}", -40_000_000),
        moved(tag, f"txn-{tag}-1", -100_000_000, f"dp-{tag}"),
        moved(tag, f"txn-{tag}-2", 40_000_000, f"dp-{tag}"),
        moved(tag, f"txn-{tag}-3", 60_000_000, f"dp-{tag}"),
    ):
        shared.tell(told)
        balances.append(shared.balance(organization_id))

    assert balances == [60_000_000, 0, 0, 60_000_000]


def test_movement_in_the_settlement_currency_is_scaled_by_the_first_withdrawal(
    shared: Books, tag: str, sell: Callable[[Sale], UUID]
) -> None:
    """92.50 EUR were the 100 dollars that are disputed, so 0.31 EUR are 0.335135 dollars."""
    organization_id = sell(Sale(100_000_000))
    about = {"currency": "EUR", "disputed_micros": 100_000_000}
    shared.tell(moved(tag, f"txn-{tag}-1", -92_500_000, f"dp-{tag}", **about))
    shared.tell(moved(tag, f"txn-{tag}-2", 310_000, f"dp-{tag}", **about))

    assert shared.balance(organization_id) == 335_135
    assert [row["idempotency_key"] for row in shared.transfers(organization_id)][1:] == [
        f"dispute:txn-{tag}-1",
        f"dispute:txn-{tag}-2",
    ]


def test_dispute_in_a_currency_of_its_own_takes_what_was_credited(
    shared: Books, tag: str, sell: Callable[[Sale], UUID]
) -> None:
    """Neither the payment's nor exchanged into it: it is taken to be about the whole payment."""
    organization_id = sell(Sale(100_000_000))
    about = {"currency": "EUR", "disputed_micros": 80_000_000, "disputed_currency": "GBP"}
    shared.tell(moved(tag, f"txn-{tag}-1", -92_500_000, f"dp-{tag}", **about))
    taken = shared.balance(organization_id)
    shared.tell(moved(tag, f"txn-{tag}-2", 46_250_000, f"dp-{tag}", **about))

    assert (taken, shared.balance(organization_id)) == (0, 50_000_000)


def test_dispute_that_turns_out_to_be_about_more_is_set_right(
    shared: Books, tag: str, sell: Callable[[Sale], UUID]
) -> None:
    """Whichever event comes first: the one with the larger amount counts."""
    organization_id = sell(Sale(100_000_000))
    for disputed in (50_000_000, 80_000_000, 50_000_000):
        told = moved(tag, f"txn-{tag}", -46_000_000, f"dp-{tag}", currency="EUR", disputed_micros=disputed)
        shared.tell(told)

    assert shared.balance(organization_id) == 20_000_000


def test_steps_without_ids_give_way_to_balance_transactions(
    shared: Books, tag: str, sell: Callable[[Sale], UUID]
) -> None:
    """An old event tells only that money moved; a later one what did. Nothing is taken twice."""
    organization_id = sell(Sale(100_000_000))
    shared.tell(moved(tag, f"dp-{tag}:withdrawn", -100_000_000, f"dp-{tag}"))
    shared.tell(moved(tag, f"txn-{tag}-1", -100_000_000, f"dp-{tag}"))
    withdrawn = shared.balance(organization_id)
    shared.tell(moved(tag, f"dp-{tag}:reinstated", 100_000_000, f"dp-{tag}"))
    assumed = shared.balance(organization_id)
    shared.tell(moved(tag, f"txn-{tag}-2", 40_000_000, f"dp-{tag}"))

    assert (withdrawn, assumed, shared.balance(organization_id)) == (0, 100_000_000, 40_000_000)


def test_refund_in_another_currency_waits_until_it_is_booked_by_hand(shared: Books, tag: str, paid: UUID) -> None:
    """Nothing is exchanged here; what somebody booked in the wallet's currency is what Stripe told."""
    told = moved(tag, f"re-{tag}", -3_500_000, currency="EUR")

    assert shared.tell(told) == {f"re-{tag}": ("parked", f"currency_mismatch:{tag}")}
    assert shared.refund(tag, f"re-{tag}", 4_000_000) == BOOKED
    assert shared.tell(told) == {f"re-{tag}": BOOKED}
    assert shared.balance(paid) == 6_000_000


@pytest.mark.parametrize(
    "change", [{"amount_micros": -2}, {"payment_id": "pi_other"}, {"kind": "dispute"}, {"source_id": "re_other"}]
)
def test_movement_told_with_other_facts_conflicts(shared: Books, tag: str, change: dict[str, Any]) -> None:
    """A refund has one amount and one payment, whoever booked it."""
    refund = moved(tag, f"re-{tag}", -1)
    shared.tell(refund)

    with pytest.raises(IdempotencyConflict):
        shared.tell(refund | change)


@pytest.mark.parametrize(
    "change",
    [
        {"amount_micros": 0},
        {"amount_micros": None},
        {"id": ""},
        {"payment_id": None},
        {"event_at": None, "kind": "dispute"},
    ],
)
def test_movement_without_what_it_takes_is_refused(shared: Books, tag: str, change: dict[str, Any]) -> None:
    """Nothing is kept of it."""
    with pytest.raises(InvalidAmount):
        shared.tell(moved(tag, f"re-{tag}", -1) | change)


def test_movement_that_names_only_the_charge_finds_its_payment(shared: Books, tag: str, paid: UUID) -> None:
    """Known by the payment's own event, or by any other that names both; until then it waits."""
    first = moved(None, f"re-{tag}-1", -1_000_000, charge_id=f"ch-{tag}")
    ahead = shared.tell(first)
    shared.tell(moved(tag, f"re-{tag}-2", -2_000_000, charge_id=f"ch-{tag}"))
    assert shared.balance(paid) == 7_000_000

    assert ahead == {f"re-{tag}-1": ("parked", f"payment_not_credited:ch-{tag}")}
    assert shared.tell(first) == {f"re-{tag}-1": BOOKED}
    assert shared.balance(paid) == 7_000_000


def test_refund_of_a_payment_that_is_none_of_ours_is_skipped_unless_it_becomes_ours(shared: Books, tag: str) -> None:
    """A refund ahead of its payment waits; known to be nobody's here it is skipped, and yet not forgotten."""
    seen = json.dumps([{"payment_id": tag, "charge_id": None, "skipped_because": "payment skipped: other_purpose"}])
    ahead = shared.refund(tag, f"re-{tag}", 4_000_000)
    shared.value("SELECT count(*) FROM (SELECT note_payments(CAST(:seen AS jsonb))) AS n", seen=seen)
    skipped = shared.refund(tag, f"re-{tag}", 4_000_000)
    organization_id = shared.organization()
    shared.credit(organization_id, 10_000_000, f"topup:{tag}")

    assert (ahead[0], skipped) == ("parked", ("skipped", "payment skipped: other_purpose"))
    assert shared.balance(organization_id) == 6_000_000


SALES = {
    "plain": Sale(100_000_000),
    "taxed": Sale(119_990_000, tax=19_157_983, fee=3_330_000),
}


def kinds(sale: Sale) -> list[list[Row] | None]:
    """Nine events of a payment's life: None is its credit; a dispute's events list what was moved so far."""
    first = [moved("pi", "txn_1", -92_500_000, "dp_1", currency="EUR", disputed_micros=100_000_000)]
    partly = [*first, {**first[0], "id": "txn_2", "amount_micros": 310_000, "event_at": "2026-07-03T00:00:00+00:00"}]
    won = [
        *partly,
        {**first[0], "id": "txn_3", "amount_micros": -240_000, "event_at": "2026-07-02T00:00:00+00:00"},
        {**first[0], "id": "txn_4", "amount_micros": 92_500_000, "event_at": "2026-07-04T00:00:00+00:00"},
    ]
    return [
        None,
        [moved("pi", "re_1", -40_000_000)],
        [moved("pi", "re_1:returned", 40_000_000)],
        [moved("pi", "re_2", -sale.charged // 3)],
        first,
        partly,
        won,
        [moved("pi", "dp_2:withdrawn", -sale.charged - 1_240_000, "dp_2")],
        [moved("pi", "txn_5", 50_000_000, "dp_2", disputed_micros=sale.charged + 1_240_000)],
    ]


class Ledger:
    """One payment in a transaction that goes forth and back, held against the oracle after each event."""

    def __init__(self, connection: psycopg.Connection, sale: Sale) -> None:
        self.connection = connection
        self.sale = sale
        self.seen = 0
        row = connection.execute("SELECT create_organization('Acme', 'a@example.com')").fetchone()
        assert row is not None
        self.organization_id = row[0]

    def tell(self, event: list[Row] | None) -> None:
        """One event."""
        if event is not None:
            self.connection.execute("SELECT * FROM record_movements(%s::jsonb)", [json.dumps(event)])
            return
        if self.connection.execute("SELECT 1 FROM payments").fetchone():
            return
        credit(self.connection, self.organization_id, "pi", self.sale)

    def compare(self, told: list[list[Row] | None]) -> None:
        """Wallet, tax, fees and excess are what the set of what was told comes to."""
        self.seen += 1
        credited = None in told
        expected = outcome(self.sale, [movement for event in told if event for movement in event])
        if not credited:
            expected = Outcome()
        row = self.connection.execute(
            "SELECT wallet_booked_micros, tax_booked_micros, fee_booked_micros, excess_booked_micros"
            " FROM payment_reversals"
        ).fetchone()
        assert Outcome(*(row or ())) == expected, told
        balance = self.connection.execute("SELECT balance_micros FROM wallets").fetchone()
        assert balance == ((self.sale.credited if credited else 0) - expected.wallet,), told

    def walk(self, events: list[list[Row] | None], depth: int, told: list[list[Row] | None]) -> None:
        """All orders of up to `depth` of the events, from here."""
        for place, event in enumerate(events):
            self.connection.execute("SAVEPOINT here")
            self.tell(event)
            told.append(event)
            self.compare(told)
            if depth > 1:
                self.walk(events[:place] + events[place + 1 :], depth - 1, told)
            told.pop()
            self.connection.execute("ROLLBACK TO SAVEPOINT here; RELEASE SAVEPOINT here")


@pytest.fixture
def ledger(database_url: str, books: Books, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """Of the sale that the test names."""
    with psycopg.connect(database_url) as connection:
        yield Ledger(connection, SALES[request.param])
        assert connection.execute("SELECT * FROM check_books()").fetchall() == []
        connection.rollback()


@pytest.mark.parametrize("ledger", ["taxed"], indirect=True)
def test_all_orders_of_three_events_agree_with_the_oracle(ledger: Ledger) -> None:
    """Of nine kinds, after each event."""
    ledger.walk(kinds(ledger.sale), 3, [])

    assert ledger.seen == 9 + 9 * 8 + 9 * 8 * 7


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("ledger", ["taxed"], indirect=True)
def test_all_orders_of_seven_events_agree_with_the_oracle(ledger: Ledger) -> None:
    """Of nine kinds, after each event: 260,649 of them."""
    ledger.walk(kinds(ledger.sale), 7, [])

    assert ledger.seen == 260_649


def any_story(ledger: Ledger, chance: random.Random) -> None:
    """Sixteen events, all nine kinds and some of them again, checked after each."""
    events = kinds(ledger.sale)
    story = [*events, *chance.choices(events, k=7)]
    chance.shuffle(story)
    ledger.connection.execute("SAVEPOINT start")
    for place, event in enumerate(story):
        ledger.tell(event)
        ledger.compare(story[: place + 1])
    assert ledger.connection.execute("SELECT * FROM check_books()").fetchall() == []
    ledger.connection.execute("ROLLBACK TO SAVEPOINT start")


@pytest.mark.parametrize("ledger", SALES, indirect=True)
def test_long_orders_with_repetitions_agree_with_the_oracle(ledger: Ledger) -> None:
    """Every order ends in the same books, whatever comes twice."""
    for seed in range(15):
        any_story(ledger, random.Random(seed))
