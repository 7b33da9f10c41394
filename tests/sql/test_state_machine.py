"""Any story that can happen to a wallet, told to SQL and to an independent model at once."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import errors
from psycopg.rows import dict_row

from tests.books import moved, told_call
from tests.sql.model import Price, Wallet

START = datetime(2026, 7, 1, tzinfo=UTC)
AMOUNTS = st.integers(1, 9_000_000) | st.sampled_from([1, 700_000, 5_000_000, 5_000_001])
PLACES = st.integers(0, 1)
TIMES = st.integers(0, 3_600)
LENGTHS_MS = st.integers(0, 900_000) | st.integers(0, 15).map(lambda minutes: minutes * 60_000)


class Story(RuleBasedStateMachine):
    """Two organizations in one transaction, which the end of the story takes back."""

    url: ClassVar[str]
    connections: ClassVar[list[psycopg.Connection[Any]]] = []
    calls = Bundle("calls")
    payments = Bundle("payments")
    disputes = Bundle("disputes")

    def __init__(self) -> None:
        super().__init__()
        self.connection = psycopg.connect(self.url, row_factory=dict_row)
        self.connections.append(self.connection)
        self.connection.execute("SELECT")  # begins the one transaction; what follows are savepoints
        self.ids: list[Any] = []
        self.models: list[Wallet] = []
        self.number = 0

    def teardown(self) -> None:
        """Nothing of an example is left for the next one."""
        self.connection.rollback()
        self.connection.close()
        self.connections.remove(self.connection)

    def ask(self, query: str, *arguments: object) -> dict[str, Any]:
        """The one row of a query; an error takes back this statement alone."""
        with self.connection.transaction():
            row = self.connection.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return row

    def refused(self, sqlstate: str, query: str, *arguments: object) -> None:
        """The query is refused with this code."""
        with pytest.raises(errors.Error) as refusal:
            self.ask(query, *arguments)
        assert refusal.value.sqlstate == sqlstate

    def fresh(self) -> str:
        """An id that was not used in this story."""
        self.number += 1
        return f"x{self.number:04}"

    @initialize(limits=st.lists(st.sampled_from([0, 700_000, 5_000_000]), min_size=2, max_size=2))
    def open_wallets(self, limits: list[int]) -> None:
        """Open both organizations."""
        for place, limit in enumerate(limits):
            row = self.ask("SELECT create_organization(%s, 'a@example.com', 'USD', %s) AS id", f"o{place}", limit)
            self.ids.append(row["id"])
            self.models.append(Wallet(limit=limit))
            self.ask("SELECT add_route(%s, 'assistant', %s)", row["id"], f"a{place}")

    @rule(target=payments, place=PLACES, amount=AMOUNTS, kind=st.sampled_from(["topup", "topup", "adjustment"]))
    def credit(self, place: int, amount: int, kind: str) -> tuple[int, str]:
        """Money comes in."""
        key = f"topup:{self.fresh()}" if kind == "topup" else self.fresh()
        answer = self.ask("SELECT * FROM credit_wallet(%s, %s, %s, %s)", self.ids[place], amount, key, kind)
        assert answer == self.models[place].credit(key, amount, kind)
        return place, key

    @rule(known=payments, other=st.sampled_from([None, "amount", "organization", "kind"]))
    def credit_again(self, known: tuple[int, str], other: str | None) -> None:
        """The same key again: the first answer, or a conflict if a fact differs."""
        place, key = known
        amount, kind, answer = self.models[place].credits[key]
        query = "SELECT * FROM credit_wallet(%s, %s, %s, %s)"
        match other:
            case None:
                assert self.ask(query, self.ids[place], amount, key, kind) == {**answer, "duplicate": True}
            case "amount":
                self.refused("TY002", query, self.ids[place], amount + 1, key, kind)
            case "organization":
                self.refused("TY002", query, self.ids[1 - place], amount, key, kind)
            case _:
                other_kind, code = ("adjustment", "TY004") if kind == "topup" else ("topup", "TY002")
                self.refused(code, query, self.ids[place], amount, key, other_kind)

    @rule(target=calls, place=PLACES, amount=AMOUNTS | st.sampled_from([0, None]), beyond=st.integers(0, 1), at=TIMES)
    def deduct(self, place: int, amount: int | None, beyond: int, at: int) -> tuple[int, str]:
        """Usage, of any amount or (None) of exactly the room that is left or one micro more."""
        model = self.models[place]
        exact = max(0, model.room) + beyond if amount is None else amount
        call_id = self.fresh()
        answer = self.deduct_call(place, call_id, exact, at)
        assert answer == model.charge(f"call:{call_id}", exact, at).answer
        return place, call_id

    def deduct_call(self, place: int, call_id: str, amount: int, at: int) -> dict[str, Any]:
        """What deduct_call_credits answers."""
        moment = START + timedelta(seconds=at)
        query = "SELECT * FROM deduct_call_credits(%s, %s, %s, %s)"
        return self.ask(query, self.ids[place], call_id, amount, moment)

    @rule(known=calls, other=st.sampled_from([None, "amount", "organization"]))
    def deduct_again(self, known: tuple[int, str], other: str | None) -> None:
        """The same call again: the first answer, or a conflict if a fact differs."""
        place, call_id = known
        charge = self.models[place].charges[f"call:{call_id}"]
        if other is None:
            assert self.deduct_call(place, call_id, charge.amount, 0) == {**charge.answer, "duplicate": True}
        else:
            payer = 1 - place if other == "organization" else place
            amount = charge.amount + (other == "amount")
            query = "SELECT * FROM deduct_call_credits(%s, %s, %s)"
            self.refused("TY002", query, self.ids[payer], call_id, amount)

    @rule(target=calls, lengths=st.lists(st.tuples(PLACES, LENGTHS_MS, TIMES), min_size=1, max_size=5))
    def record(self, lengths: list[tuple[int, int, int]]) -> Any:
        """Ended calls are told in one batch; the one that ended first is charged first."""
        told = [(place, self.fresh(), length, at) for place, length, at in lengths]
        batch = [
            told_call(call_id, f"a{place}", length / 1000, START + timedelta(seconds=at))
            for place, call_id, length, at in told
        ]
        expected = {}
        for place, call_id, length, at in sorted(told, key=lambda call: (call[3] * 1000 + call[2], call[1])):
            ended = at + 5 + length / 1000
            charge = self.models[place].record(call_id, length, ended)  # type: ignore[arg-type]
            expected[call_id] = (charge.state, charge.amount)

        answers = self.connection.execute("SELECT * FROM record_calls(%s::jsonb)", [json.dumps(batch)]).fetchall()

        assert {row["call_id"]: (row["outcome"], row["amount_micros"]) for row in answers} == expected
        return multiple(*((place, call_id) for place, call_id, _, _ in told))

    @rule(known=calls, length=LENGTHS_MS, at=TIMES)
    def correct(self, known: tuple[int, str], length: int, at: int) -> None:
        """The provider corrects a call's length."""
        place, call_id = known
        expected = None
        if call_id in self.models[place].calls:
            expected = self.models[place].correct(call_id, length, at)
        ended = START + timedelta(milliseconds=length)
        arguments = [call_id, START, ended, None, START + timedelta(seconds=at)]
        assert self.ask("SELECT correct_call(%s, %s, %s, %s, %s) AS micros", *arguments)["micros"] == expected

    @rule(place=PLACES, amount=AMOUNTS)
    def debit(self, place: int, amount: int) -> None:
        """An operator corrects by hand, and perhaps hits the key twice."""
        query, key = "SELECT * FROM debit_wallet(%s, %s, %s, 'paid twice')", self.fresh()
        answer = self.ask(query, self.ids[place], amount, key)
        assert answer == self.models[place].debit(amount)
        assert self.ask(query, self.ids[place], amount, key) == {**answer, "duplicate": True}
        self.refused("TY002", query, self.ids[place], amount + 1, key)
        self.refused("TY002", query, self.ids[1 - place], amount, key)
        credit = "SELECT * FROM credit_wallet(%s, %s, %s, 'adjustment')"
        self.refused("TY002", credit, self.ids[place], amount, key)

    @rule(known=payments, amount=AMOUNTS)
    def refund(self, known: tuple[int, str], amount: int) -> None:
        """Stripe takes back part of a payment, or asks for more than there was."""
        source_id = self.fresh()
        self.move(known, moved(known[1].removeprefix("topup:"), source_id, -amount))

    @rule(target=disputes, known=payments, amount=AMOUNTS)
    def withdraw(self, known: tuple[int, str], amount: int) -> Any:
        """A dispute takes money back."""
        source_id = self.fresh()
        if self.move(known, moved(known[1].removeprefix("topup:"), self.fresh(), -amount, source_id)):
            return known, source_id
        return multiple()

    @rule(known=disputes, amount=AMOUNTS)
    def reinstate(self, known: tuple[tuple[int, str], str], amount: int) -> None:
        """A dispute gives back some of it, or more, and goes on."""
        (place, key), source_id = known
        self.move((place, key), moved(key.removeprefix("topup:"), self.fresh(), amount, source_id))

    def move(self, known: tuple[int, str], movement: dict[str, Any]) -> bool:
        """Tell of a movement, twice; whether there is a payment that it is of."""
        model, payment_id = self.models[known[0]], movement["payment_id"]
        is_paid = payment_id in model.payments
        if is_paid:
            model.move(payment_id, movement["source_id"], movement["amount_micros"])
        for _ in range(2):
            answer = self.ask("SELECT * FROM record_movements(%s::jsonb)", json.dumps([movement]))
            assert (answer["outcome"], answer["reason"]) == (
                ("booked", None) if is_paid else ("parked", f"payment_not_credited:{payment_id}")
            )
        return is_paid

    @rule(place=PLACES, limit=st.integers(0, 10_000_000))
    def change_limit(self, place: int, limit: int) -> None:
        """The debt limit goes up or down."""
        self.models[place].limit = limit
        settled = self.ask("SELECT set_debt_limit(%s, %s) AS micros", self.ids[place], limit)["micros"]
        assert settled == self.models[place].settle()

    @rule(place=PLACES, allowed=st.booleans())
    def change_policy(self, place: int, allowed: bool) -> None:
        """Overruns are allowed, or not any more."""
        self.models[place].overrun_allowed = allowed
        policy = "allow_overrun" if allowed else "record"
        self.ask("SELECT set_charge_policy(%s, %s)", self.ids[place], policy)

    @rule(
        place=PLACES,
        per_minute=st.integers(0, 2_000_000),
        increment=st.sampled_from([1, 6, 60]),
        seconds=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    )
    def change_price(self, place: int, per_minute: int, increment: int, seconds: tuple[int, int]) -> None:
        """Another price, for calls that are recorded from now on."""
        self.models[place].price = Price(per_minute, increment, *seconds)
        self.ask("SELECT set_price(%s, %s, %s, %s, %s)", self.ids[place], per_minute, increment, *seconds)

    @rule(place=PLACES)
    def settle(self, place: int) -> None:
        """Settling by hand finds nothing that was not settled already."""
        assert self.ask("SELECT settle_outstanding(%s) AS micros", self.ids[place])["micros"] == 0
        assert self.models[place].settle() == 0

    @precondition(lambda self: self.ids)
    @invariant()
    def wallets_agree(self) -> None:
        """After every step, both wallets are what the model says."""
        rows = self.connection.execute("SELECT * FROM wallet_balances").fetchall()
        by_id = {row["organization_id"]: (row["balance_micros"], row["outstanding_micros"]) for row in rows}
        assert [by_id[id_] for id_ in self.ids] == [(model.balance, model.outstanding) for model in self.models]

    @invariant()
    def books_are_right(self) -> None:
        """After every step, no invariant is broken."""
        assert self.connection.execute("SELECT * FROM check_books()").fetchall() == []


def run(url: str, examples: int) -> None:
    """Tell that many stories."""
    Story.url = url
    try:
        run_state_machine_as_test(
            Story,
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    finally:  # a story that a time limit ended would hold its locks against the next test
        while Story.connections:
            Story.connections.pop().close()


SHRINKING_SECONDS = 300
"""For how long hypothesis makes a failure smaller; a time limit before that would hide what was found."""


@pytest.mark.timeout(60 + SHRINKING_SECONDS)
def test_books_equal_model_in_any_story(database_url: str) -> None:
    """SQL and the model agree on every answer, balance and debt, and the books check after every step."""
    run(database_url, 25)


@pytest.mark.slow
@pytest.mark.timeout(1800 + SHRINKING_SECONDS)
def test_books_equal_model_in_thousands_of_stories(database_url: str) -> None:
    """The same, 2,000 times."""
    run(database_url, 2_000)
