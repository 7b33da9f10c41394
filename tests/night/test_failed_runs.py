"""What a run recorded before it failed is reported by the next one that lists the same stretch, once."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import Engine

from billing import repair, runs
from billing.figures import Finding, Window
from billing.night import corrected_earlier, findings, money, recovered_earlier
from tests.books import Books

from .bookkeeping import A_MINUTE_MICROS, FIGURES, WINDOW, acme, begin, compare, ended, order
from .listed import listed

DAY = timedelta(days=1)


@pytest.fixture
def failed(books: Books, engine: Engine) -> UUID:
    """A run that charged one call, quarantined another, and failed."""
    acme(books)
    run_id = begin(engine)
    calls = [ended("a"), ended("stray", assistant="unknown"), ended("unanswered", None)]
    repair.record_calls(engine, calls, run_id)
    runs.fail_run(engine, run_id, "no connection")
    return run_id


def taken(engine: Engine, run_id: UUID) -> list[tuple[Any, ...]]:
    """What a run takes over."""
    return [
        (found.kind, found.call_id, found.outcome, found.amount_micros) for found in runs.take_over(engine, run_id)
    ]


EVERYTHING = [("missing", "a", "settled", A_MINUTE_MICROS), ("unattributed", "stray", "unattributed", None)]


def test_records_of_a_failed_run_are_taken_over_once(failed: UUID, books: Books, engine: Engine) -> None:
    """By the next run, which may ask twice; the one after it finds nothing left."""
    first = begin(engine)
    found = runs.take_over(engine, first)

    assert taken(engine, first) == EVERYTHING
    assert [call.call_id for call in recovered_earlier(found)] == ["a"]
    assert found[0].detail is not None
    assert (found[0].detail["recorded_by"], found[0].detail["duration_ms"]) == (str(failed), 60_000)
    runs.finish_run(engine, first, found, FIGURES)
    assert taken(engine, begin(engine)) == []


def test_corrections_of_a_failed_run_are_taken_over_once(failed: UUID, books: Books, engine: Engine) -> None:
    """Their money counts in the run that tells of them, beside what that one corrects itself."""
    second = begin(engine)
    repair.correct_calls(engine, [ended("a", 120)], second)
    runs.fail_run(engine, second, "no connection either")
    third = begin(engine)
    compared = compare(engine, [listed("a", 180, assistant_id="asst")])
    own = repair.correct_calls(engine, compared.drifted, third)
    earlier = runs.take_over(engine, third)
    told = [found for found in findings(compared, [], own, earlier) if found.kind == "drift"]

    assert [(found.call_id, found.outcome, found.amount_micros) for found in told] == [
        ("a", "corrected", A_MINUTE_MICROS)
    ] * 2
    assert told[1].detail == {"duration": [60_000, 120_000], "recorded_by": str(second)}
    currencies = dict.fromkeys(runs.load_customers(engine), "USD")
    [dollars] = money(WINDOW, [], [*own, *corrected_earlier(earlier)], [], [], currencies)
    assert dollars.corrected_micros == 2 * A_MINUTE_MICROS
    runs.finish_run(engine, third, told, FIGURES)
    assert taken(engine, begin(engine)) == []


def test_records_are_taken_over_again_if_that_run_fails_too(failed: UUID, engine: Engine) -> None:
    """Along with its own."""
    second = begin(engine)
    repair.record_calls(engine, [ended("b")], second)
    runs.take_over(engine, second)
    runs.fail_run(engine, second, "no connection either")

    assert {found[1] for found in taken(engine, begin(engine))} == {"a", "b", "stray"}


def test_run_that_lives_or_has_reported_is_left_alone(books: Books, engine: Engine) -> None:
    """What it recorded is its own to tell."""
    acme(books)
    reported, alive = begin(engine), uuid4()
    repair.record_calls(engine, [ended("a")], reported)
    runs.finish_run(engine, reported, [], FIGURES)
    with runs.marked_alive(engine, alive):
        runs.start_run(engine, alive, order(), None)
        repair.record_calls(engine, [ended("b")], alive)

        assert taken(engine, begin(engine)) == []


@pytest.mark.parametrize(
    ("window", "is_taken"),
    [
        (WINDOW, True),
        (Window(WINDOW.end, WINDOW.end + DAY, WINDOW.end - DAY), True),
        (Window(WINDOW.end, WINDOW.end + DAY, WINDOW.end), False),
        (Window(WINDOW.start - DAY, WINDOW.start, WINDOW.start - DAY), False),
    ],
)
def test_records_are_taken_over_by_a_run_that_lists_the_same_stretch(
    failed: UUID, engine: Engine, window: Window, is_taken: bool
) -> None:
    """The next night does, since it looks back; one that meets the window or ends before it has nothing to say."""
    run_id = uuid4()
    runs.start_run(engine, run_id, replace(order(), window=window), None)

    assert taken(engine, run_id) == (EVERYTHING if is_taken else [])


def test_run_of_one_organization_takes_over_no_run_of_all(failed: UUID, engine: Engine) -> None:
    """It would tell of calls that are none of its organization's."""
    assert taken(engine, begin(engine, organization="Acme")) == []


def test_run_is_begun_and_finished_once_however_often_it_is_tried(books: Books, engine: Engine) -> None:
    """A task that lost the answer of the database does it again, and nothing is there twice."""
    run_id = begin(engine)
    runs.start_run(engine, run_id, order(), None)
    found = runs.take_over(engine, run_id)
    for _ in range(2):
        runs.finish_run(engine, run_id, [*found, Finding("unreadable", None)], FIGURES)

    assert books.value("SELECT count(*) FROM reconciliation_runs") == 1
    assert books.value("SELECT count(*) FROM findings") == 1


def test_call_that_a_webhook_booked_meanwhile_is_known(books: Books, engine: Engine) -> None:
    """Of what a run records, the rest is its own, also when its task is tried again."""
    acme(books)
    run_id = begin(engine)
    books.rows("SELECT record_calls(CAST(:calls AS jsonb))", calls=msgspec.json.encode([ended("brought")]).decode())
    calls = [ended("brought"), ended("found")]
    tries = [repair.record_calls(engine, calls, run_id) for _ in range(2)]

    assert [{call.call_id: call.known for call in recorded} for recorded in tries] == [
        {"brought": True, "found": False}
    ] * 2


def test_plan_that_was_booked_is_left_to_whoever_applies_it_again(books: Books, engine: Engine) -> None:
    """That finishes it, with what it showed; a night that told of it as well would tell of it twice."""
    acme(books)
    rehearsal, dead = begin(engine, dry_run=True), uuid4()
    runs.start_run(engine, dead, replace(order(), applies_run_id=rehearsal), None)
    repair.record_calls(engine, [ended("a")], dead)
    runs.fail_run(engine, dead, "no connection")

    assert taken(engine, begin(engine)) == []
