"""What a night does to calls that are in the books already, and to those that no night can bill by itself."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from billing import repair
from billing.night import findings
from tests.books import Books

from .bookkeeping import A_MINUTE_MICROS, acme, begin, compare, ended
from .listed import AS_OF, listed


@pytest.mark.parametrize("cost", ["0", None])
def test_call_that_runs_again_keeps_what_it_cost(books: Books, engine: Engine, cost: str | None) -> None:
    """After a dropped or transferred call the list shows it in progress, without cost: a finding, and no refund."""
    organization_id = acme(books)
    repair.record_calls(engine, [ended("a", 60)], begin(engine))
    compared = compare(engine, [listed("a", 60, cost=cost, status="in-progress", assistant_id="asst")])
    corrected = repair.correct_calls(engine, compared.drifted, begin(engine))

    assert compared.drifted == []
    assert books.balance(organization_id) == 5_000_000 - A_MINUTE_MICROS
    assert [(found.kind, found.outcome) for found in findings(compared, [], corrected)] == [("drift", "noted")]

    compared = compare(engine, [listed("a", 120, assistant_id="asst")])
    repair.correct_calls(engine, compared.drifted, begin(engine))
    assert books.balance(organization_id) == 5_000_000 - 2 * A_MINUTE_MICROS


def test_call_in_quarantine_is_billed_by_its_corrected_length(books: Books, engine: Engine) -> None:
    """Nothing was charged yet, so the books take the new facts, and the route that comes later charges those."""
    organization_id = acme(books)
    repair.record_calls(engine, [ended("stray", 60, assistant="later")], begin(engine))
    compared = compare(engine, [listed("stray", 120, assistant_id="later")])
    corrected = repair.correct_calls(engine, compared.drifted, begin(engine))
    books.route(organization_id, "later")

    assert [change.difference_micros for change in corrected] == [None]
    assert [charge["amount_micros"] for charge in books.charges(organization_id)] == [2 * A_MINUTE_MICROS]
    assert books.broken() == []


@pytest.mark.parametrize("status", ["deletion-failed", "not-found"])
def test_ended_call_that_vapi_was_asked_to_forget_is_billed(books: Books, engine: Engine, status: str) -> None:
    """It has an end, so it cost what it cost, and its report was due."""
    organization_id = acme(books)
    call = listed("a", 60, status=status, forgotten=True, assistant_id="asst")
    compared = compare(engine, [call])
    repair.record_calls(engine, compared.missing, begin(engine))

    assert (compared.counts["missing"], compared.reliability.lost) == (1, 1)
    assert books.balance(organization_id) == 5_000_000 - A_MINUTE_MICROS


@pytest.mark.parametrize(("hours", "is_found"), [(13, True), (11, False)])
def test_open_call_that_should_be_over_is_a_finding(books: Books, engine: Engine, hours: int, is_found: bool) -> None:
    """No call lasts longer than 12 hours: one that is open after that is for people to look at."""
    acme(books)
    began = AS_OF - timedelta(hours=hours)
    running = listed("running", 60, status="in-progress", created_at=began, assistant_id="asst")
    touched = listed("touched", 60, created_at=began, updated_at=AS_OF, assistant_id="asst")
    compared = compare(engine, [running, touched])
    found = {(finding.kind, finding.call_id, finding.outcome) for finding in findings(compared, [], [])}

    assert compared.missing == []
    assert found == ({("open", "running", "noted"), ("open", "touched", "noted")} if is_found else set())
