"""A night that is run again gives the same ratio, whatever has arrived, been applied or been deleted since."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import Engine

from billing import inbox, repair
from billing.database import rows, transaction
from billing.deliveries import Delivery
from billing.figures import Reliability
from billing.night import Comparison
from billing.vapi import EndedCall, ListedCall
from tests.books import Books

from .bookkeeping import acme, begin, compare
from .listed import AS_OF, listed

CALL = listed("late", assistant_id="asst")
TOUCHED = listed("late", assistant_id="asst", updated_at=AS_OF - timedelta(minutes=1))
"""Its numbers may still move, so it is open: counted, and not recorded."""
OTHER = listed("lost", assistant_id="asst")

Step = Callable[[Engine, Comparison], None]


def arrive(engine: Engine, _: Comparison) -> None:
    """The report is stored."""
    inbox.accept(engine, [Delivery("vapi", "late:end-of-call-report", "end-of-call-report", b"{}")])


def apply(engine: Engine, _: Comparison) -> None:
    """The report is applied."""
    calls: Sequence[EndedCall] = [CALL.ended_call()]
    with transaction(engine) as connection:
        rows(connection, "SELECT record_calls(CAST(:calls AS jsonb))", calls=msgspec.json.encode(calls).decode())


def record(engine: Engine, comparison: Comparison) -> None:
    """The night records what it found missing."""
    repair.record_calls(engine, comparison.missing, begin(engine))


@pytest.mark.parametrize("first", [CALL, TOUCHED])
@pytest.mark.parametrize(
    "steps",
    [[arrive], [arrive, record], [arrive, apply], [arrive, apply, record], [record, arrive, apply]],
    ids=lambda steps: "-".join(step.__name__ for step in steps),
)
def test_report_after_first_sight_improves_no_rerun(
    books: Books, engine: Engine, first: ListedCall, steps: Sequence[Step]
) -> None:
    """Stored or applied before, during or after the repair, also of a call that the night could not record."""
    acme(books)
    comparison = compare(engine, [first, OTHER])
    for step in steps:
        step(engine, comparison)
    record(engine, compare(engine, [CALL, OTHER]))

    assert comparison.reliability == Reliability(0, 2)
    assert compare(engine, [CALL, OTHER]).reliability == Reliability(0, 2)
    assert books.rows("SELECT ended, by_webhook FROM vapi_webhook_reliability") == [{"ended": 2, "by_webhook": 0}]
    assert books.value("SELECT count(*) FROM charges") == 2
    assert books.broken() == []


def test_report_that_was_there_at_first_sight_keeps_counting(books: Books, engine: Engine) -> None:
    """Even if nobody can apply it, and it is forgotten in the end."""
    acme(books)
    accepted = compare(engine, [OTHER])
    arrive(engine, accepted)
    first = compare(engine, [TOUCHED, OTHER])
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE calltally_books")
        connection.exec_driver_sql("DELETE FROM events")
    record(engine, compare(engine, [CALL, OTHER]))

    assert first.reliability == compare(engine, [CALL, OTHER]).reliability == Reliability(1, 2)


def test_deleted_calls_keep_counting(books: Books, engine: Engine) -> None:
    """Those that the books know: told by a webhook, or found by a night."""
    acme(books)
    apply(engine, compare(engine, []))
    record(engine, compare(engine, [CALL, OTHER]))

    assert compare(engine, [CALL, OTHER]).reliability == compare(engine, []).reliability == Reliability(1, 2)
