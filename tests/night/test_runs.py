"""What a night keeps of itself: that it began, what it found, why it failed, and whether its process lives."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from billing import runs
from billing.errors import UnknownOrganization
from billing.figures import Completeness, Finding, NightMoney, Totals
from tests.books import Books

from .bookkeeping import FIGURES, WINDOW, acme, begin, order
from .listed import CREATED


def test_run_is_finished_with_its_findings_and_figures(books: Books, engine: Engine) -> None:
    """Figures and findings are there together, micros beyond floats included."""
    organization_id, run_id = acme(books), begin(engine)
    money = [NightMoney("USD", recovered_micros=2**53 + 1)]
    found = [
        Finding("missing", "a", organization_id, 2**53 + 1, "settled"),
        Finding("unreadable", None, detail={"problem": "no id"}),
    ]
    runs.finish_run(engine, run_id, found, {**FIGURES, "money": money})
    runs.note_alert(engine, run_id, "sent")
    runs.note_report(engine, run_id, "reports/x")
    run = books.rows("SELECT * FROM reconciliation_runs")[0]
    stored = books.rows("SELECT kind, call_id, amount_micros, outcome, detail FROM findings ORDER BY id")

    assert {name: run[name] for name in FIGURES if name != "money"} == {
        name: content for name, content in FIGURES.items() if name != "money"
    }
    assert run["money"][0]["recovered_micros"] == 2**53 + 1
    assert (run["state"], run["alert"], run["error"], run["report_path"]) == ("completed", "sent", None, "reports/x")
    assert [tuple(row.values()) for row in stored] == [
        ("missing", "a", 2**53 + 1, "settled", {}),
        ("unreadable", None, None, None, {"problem": "no id"}),
    ]


def test_run_without_findings_is_finished(books: Books, engine: Engine) -> None:
    """A perfect day has nothing to store but its figures."""
    run_id = begin(engine)
    runs.finish_run(engine, run_id, [], FIGURES)

    assert books.value("SELECT state FROM reconciliation_runs") == "completed"


def test_failed_run_keeps_its_reason(books: Books, engine: Engine) -> None:
    """Whoever looks at the run sees why it could not compare."""
    run_id = begin(engine)
    runs.fail_run(engine, run_id, "Vapi refuses VAPI_API_KEY (401)")

    run = books.rows("SELECT state, error, finished_at IS NOT NULL AS over FROM reconciliation_runs")[0]
    assert tuple(run.values()) == ("failed", "Vapi refuses VAPI_API_KEY (401)", True)


def test_finished_run_stays_finished_whatever_goes_wrong_later(books: Books, engine: Engine) -> None:
    """A report that could not be written does not unmake what was compared and billed."""
    run_id = begin(engine)
    runs.finish_run(engine, run_id, [], FIGURES)
    runs.fail_run(engine, run_id, "no space left")

    assert books.rows("SELECT state, error FROM reconciliation_runs") == [{"state": "completed", "error": None}]


def test_alert_that_failed_is_a_finding(books: Books, engine: Engine) -> None:
    """That nobody was told is something to be found; that nobody had to be is not."""
    told, untold = begin(engine), begin(engine)
    runs.note_alert(engine, told, "not needed")
    runs.note_alert(engine, untold, "could not alert: URLError")

    assert books.rows("SELECT run_id, kind, detail FROM findings") == [
        {"run_id": untold, "kind": "alert", "detail": {"problem": "could not alert: URLError"}}
    ]


def test_run_whose_process_is_gone_has_failed_at_the_next_start(
    books: Books, engine: Engine, database_url: str
) -> None:
    """A run that still lives, however long, is left alone."""
    dead, alive = uuid4(), uuid4()
    die = (
        "import os, sys; from uuid import UUID; from billing import runs; from billing.database import open_engine;"
        " from tests.night.bookkeeping import order; engine = open_engine(sys.argv[1]); run = UUID(sys.argv[2]);"
        " watch = runs.marked_alive(engine, run); watch.__enter__();"
        " runs.start_run(engine, run, order(), None); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", die, database_url, str(dead)], check=False)
    with runs.marked_alive(engine, alive):
        runs.start_run(engine, alive, order(), None)
        begin(engine)
        states = {row["id"]: row["state"] for row in books.rows("SELECT id, state FROM reconciliation_runs")}

    assert (states[dead], states[alive]) == ("failed", "running")
    assert books.value("SELECT error FROM reconciliation_runs WHERE id = :id", id=dead).startswith(
        "its process ended"
    )


def test_stranger_cannot_keep_a_dead_run_alive(books: Books, engine: Engine, owner: Books, database_url: str) -> None:
    """A login that may run no nights takes the lock by which a run says that it lives: that says nothing."""
    dead = uuid4()
    runs.start_run(engine, dead, order(), None)
    login = f"stranger_{dead.hex}"
    with owner.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {login} LOGIN IN ROLE calltally_tenant")
    address = make_url(database_url).set(username=login).render_as_string(hide_password=False)
    try:
        with psycopg.connect(address, autocommit=True) as stranger:
            stranger.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"reconciliation run {dead}"])
            begin(engine)

            assert books.value("SELECT state FROM reconciliation_runs WHERE id = :id", id=dead) == "failed"
    finally:
        with owner.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP ROLE {login}")


def test_run_of_an_unknown_organization_lists_the_known_ones(books: Books, engine: Engine) -> None:
    """A misspelt name is answered with the right ones, and no run is noted."""
    books.organization("Acme")

    with pytest.raises(UnknownOrganization, match=r"'Acne'.*Acme"):
        begin(engine, organization="Acne")
    assert books.value("SELECT count(*) FROM reconciliation_runs") == 0


@pytest.mark.parametrize("typed", ["name", "id"])
def test_organization_of_a_run_has_its_name_and_id_however_it_was_typed(
    books: Books, engine: Engine, typed: str
) -> None:
    """Messages name it, and whatever must not depend on a name goes by its id."""
    organization_id = books.organization("Acme")
    asked = order(organization={"name": "Acme", "id": str(organization_id)}[typed])
    begun = runs.start_run(engine, uuid4(), asked, None)

    assert (begun.organization, begun.organization_id) == ("Acme", organization_id)


def test_window_counts_as_compared_once_a_real_run_for_all_has_ended_well(books: Books, engine: Engine) -> None:
    """Neither a rehearsal nor a night of one organization nor another window will do."""
    books.organization("Acme")
    for run_id in (begin(engine, dry_run=True), begin(engine, organization="Acme")):
        runs.finish_run(engine, run_id, [], FIGURES)
    begin(engine)

    assert not runs.is_compared(engine, WINDOW)
    runs.finish_run(engine, begin(engine), [], FIGURES)
    assert runs.is_compared(engine, WINDOW)
    assert not runs.is_compared(engine, replace(WINDOW, end=WINDOW.end + timedelta(milliseconds=1)))


@pytest.mark.parametrize(("minutes", "compared"), [(-1, False), (14, False), (15, True)])
def test_window_that_was_not_over_when_it_was_compared_is_compared_again(
    engine: Engine, minutes: int, compared: bool
) -> None:
    """Calls that ended in its last minutes were not settled yet."""
    run_id, as_of = uuid4(), WINDOW.end + timedelta(minutes=minutes)
    runs.start_run(engine, run_id, replace(order(), as_of=as_of), None)
    runs.finish_run(engine, run_id, [], FIGURES)

    assert runs.is_compared(engine, WINDOW) is compared


PART = Completeness(WINDOW.start, WINDOW.end, Totals(9, 0), Totals(500, 0), "incomplete")


@pytest.mark.parametrize(
    ("parts", "found", "compared"),
    [
        ([replace(PART, held=True)], [], False),
        ([PART], [], True),
        ([], [Finding("missing", "a", outcome="held")], False),
        ([replace(PART, verdict="complete")], [Finding("missing", "a", outcome="settled")], True),
    ],
    ids=["a short list holds billing", "billing did not stop", "a call is held", "complete"],
)
def test_window_whose_billing_is_held_is_compared_again(
    engine: Engine, parts: list[Completeness], found: list[Finding], compared: bool
) -> None:
    """Whatever a list did not show, or showed in vain, is still to be billed."""
    runs.finish_run(engine, begin(engine), found, {**FIGURES, "completeness": parts})

    assert runs.is_compared(engine, WINDOW) is compared


def test_window_reads_in_words() -> None:
    """Run names and messages say which night it is."""
    moved = replace(WINDOW, end=CREATED)

    assert moved.in_words == "2026-11-03 00:00 to 2026-11-03 12:00 UTC"
