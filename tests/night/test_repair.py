"""What a night books: once, and all that it can."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace as changed
from sqlalchemy import Engine

from billing import repair
from billing.deliveries import Delivery
from billing.figures import Recovered
from billing.inbox import accept
from billing.known_calls import load_reported
from tests.books import Books

from .bookkeeping import A_MINUTE_MICROS, acme, begin, ended, everything


def outcomes(recovered: Sequence[Recovered]) -> dict[str, str]:
    """What became of each call."""
    return {call.call_id: call.outcome for call in recovered}


def test_missing_calls_are_stored_and_charged(books: Books, engine: Engine) -> None:
    """They are flagged as reconciled, name the run, and cost what a webhook would have made them cost."""
    organization_id, run_id = acme(books), begin(engine)
    recovered = repair.record_calls(engine, [ended("a"), ended("b", None)], run_id)

    assert outcomes(recovered) == {"a": "settled", "b": "free"}
    assert books.balance(organization_id) == 5_000_000 - A_MINUTE_MICROS
    stored = books.rows("SELECT reconciled, reconciliation_run_id, webhook_at FROM calls")
    assert stored == [{"reconciled": True, "reconciliation_run_id": run_id, "webhook_at": None}] * 2
    assert books.broken() == []


def test_missing_calls_recorded_twice_change_nothing(books: Books, engine: Engine) -> None:
    """A repeated task or night finds its own work done."""
    acme(books)
    calls = [ended("a"), ended("b"), ended("stray", assistant="unknown")]
    first = repair.record_calls(engine, calls, begin(engine))
    before = everything(books)
    second = repair.record_calls(engine, calls, begin(engine))

    assert everything(books) == before
    assert outcomes(first) == outcomes(second) == {"a": "settled", "b": "settled", "stray": "unattributed"}
    assert [call.known for call in first] == [False] * 3
    assert [call.known for call in second] == [True] * 3


def test_refused_call_is_told_and_the_others_are_billed(books: Books, engine: Engine) -> None:
    """Found by halves, wherever it stands among them."""
    acme(books)
    calls = [ended(f"good-{number}") for number in range(6)]
    calls.insert(4, changed(ended("bad"), ended_reason="\x00"))
    recovered = repair.record_calls(engine, calls, begin(engine))

    assert outcomes(recovered) == {**dict.fromkeys((call.id for call in calls), "settled"), "bad": "refused"}
    assert {call.call_id for call in recovered if call.problem} == {"bad"}
    assert books.value("SELECT count(*) FROM charges") == 6


def test_call_whose_report_waits_is_not_counted_as_lost(books: Books, engine: Engine) -> None:
    """The night records it, since it must be billed, but its webhook did arrive."""
    acme(books)
    accept(engine, [Delivery("vapi", "late:end-of-call-report", "end-of-call-report", b"{}")])
    repair.record_calls(engine, [ended("late")], begin(engine))

    assert load_reported(engine, ["late", "lost"]) == {"late"}
    assert books.value("SELECT reconciled FROM calls WHERE id = 'late'") is False


def test_drift_is_corrected_once(books: Books, engine: Engine) -> None:
    """A longer call costs the difference; the same correction again costs nothing."""
    organization_id = acme(books)
    repair.record_calls(engine, [ended("a", 60)], begin(engine))
    first = repair.correct_calls(engine, [ended("a", 120)], begin(engine))
    second = repair.correct_calls(engine, [ended("a", 120)], begin(engine))

    assert [(call.call_id, call.organization_id, call.difference_micros) for call in [*first, *second]] == [
        ("a", organization_id, A_MINUTE_MICROS),
        ("a", organization_id, 0),
    ]
    assert books.balance(organization_id) == 5_000_000 - 2 * A_MINUTE_MICROS
    assert books.broken() == []


@pytest.mark.parametrize("topup_micros", [5_000_000, 1], ids=["paid", "owed"])
def test_correction_whose_answer_got_lost_is_told_by_the_next_try(
    books: Books, engine: Engine, topup_micros: int
) -> None:
    """A repeated task tells what it has booked before, also of a charge that it replaced, and books it once."""
    books.debt_limit(acme(books, topup_micros), 0)
    repair.record_calls(engine, [ended("a", 60)], begin(engine))
    run_id = begin(engine)
    first = repair.correct_calls(engine, [ended("a", 120)], run_id)
    before = everything(books)

    assert repair.correct_calls(engine, [ended("a", 120)], run_id) == first
    assert [call.difference_micros for call in first] == [A_MINUTE_MICROS]
    assert everything(books) == before


def test_drift_of_cost_alone_moves_no_money(books: Books, engine: Engine) -> None:
    """What the provider charges the reseller is noted, and is none of the customer's business."""
    organization_id = acme(books)
    repair.record_calls(engine, [ended("a", 60)], begin(engine))
    dearer = changed(ended("a", 60), provider_cost_micros=123_456)

    assert repair.correct_calls(engine, [dearer], begin(engine))[0].difference_micros == 0
    assert books.balance(organization_id) == 5_000_000 - A_MINUTE_MICROS
    assert books.value("SELECT provider_cost_micros FROM calls") == 123_456


def test_correction_that_is_refused_keeps_no_other_from_being_booked(books: Books, engine: Engine) -> None:
    """A call that ends before it starts is told with its reason."""
    acme(books)
    repair.record_calls(engine, [ended("a"), ended("b"), ended("c")], begin(engine))
    upside_down = changed(ended("b"), started_at=ended("b").ended_at, ended_at=ended("b").started_at)
    corrected = repair.correct_calls(engine, [ended("a", 120), upside_down, ended("c", 120)], begin(engine))

    assert {call.call_id: call.difference_micros for call in corrected} == {
        "a": A_MINUTE_MICROS,
        "b": None,
        "c": A_MINUTE_MICROS,
    }
    assert {call.call_id for call in corrected if call.problem} == {"b"}


def test_lost_calls_are_valued_by_currency(books: Books, engine: Engine) -> None:
    """Corrections count, cancelled charges do not; a call of nobody is estimated at the default price."""
    acme(books, topup_micros=A_MINUTE_MICROS)
    repair.record_calls(engine, [ended("a", 60), ended("stray", 120, assistant="unknown")], begin(engine))
    repair.correct_calls(engine, [ended("a", 120)], begin(engine))
    told = [ended("a", 60), ended("stray", 120, assistant="unknown")]
    value = repair.value_calls(engine, told)[0]

    assert (value.currency, value.charged_micros, value.at_risk_micros) == (
        "USD",
        2 * A_MINUTE_MICROS,
        2 * A_MINUTE_MICROS,
    )


def test_calls_that_are_not_stored_are_valued_by_what_the_provider_says(books: Books, engine: Engine) -> None:
    """Held back or refused, they are at risk: at the price of who would pay, else at the default."""
    books.price(acme(books), 1_000_000)
    told = [ended("held", 60), ended("stray", 120, assistant="unknown"), ended("unconnected", None)]
    value = repair.value_calls(engine, told)[0]

    assert (value.charged_micros, value.at_risk_micros) == (0, 1_000_000 + 2 * A_MINUTE_MICROS)
