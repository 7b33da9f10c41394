"""What a night writes: once, only for the organization asked for, and in a rehearsal not at all."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace as changed
from sqlalchemy import Engine

from billing import runs
from billing.deliveries import Delivery
from billing.errors import UnknownOrganization
from billing.inbox import accept
from billing.runs import Finding, Recovered, Window
from billing.vapi import EndedCall
from tests.books import Books

from .listed import CREATED, listed

WINDOW = Window(
    start=datetime(2026, 11, 3, tzinfo=UTC),
    end=datetime(2026, 11, 4, tzinfo=UTC),
    listed_from=datetime(2026, 10, 31, tzinfo=UTC),
)
A_MINUTE_MICROS = 700_000


def begin(engine: Engine, *, organization: str | None = None, dry_run: bool = False) -> UUID:
    """A run that has begun."""
    return runs.start_run(engine, WINDOW, organization=organization, dry_run=dry_run, flow_run_id=None)


def ended(call_id: str, seconds: float | None = 60, assistant: str | None = "asst") -> EndedCall:
    """A call that is over."""
    return listed(call_id, seconds, assistant_id=assistant).ended_call()


def acme(books: Books, topup_micros: int = 5_000_000) -> UUID:
    """An organization with money and a route for its assistant."""
    organization_id = books.organization("Acme")
    books.credit(organization_id, topup_micros, "topup:pi_1")
    books.route(organization_id, "asst")
    return organization_id


def outcomes(recovered: list[Recovered]) -> dict[str, str]:
    """What became of each call."""
    return {call.call_id: call.outcome for call in recovered}


def everything(books: Books) -> list[dict[str, object]]:
    """The books, to compare them with themselves."""
    return [
        *books.rows("SELECT * FROM transfers ORDER BY id"),
        *books.rows("SELECT * FROM charges ORDER BY idempotency_key"),
        *books.rows("SELECT * FROM calls ORDER BY id"),
    ]


def test_missing_calls_are_stored_and_charged(books: Books, engine: Engine) -> None:
    """They are flagged as reconciled, name the run, and cost what a webhook would have made them cost."""
    organization_id, run_id = acme(books), begin(engine)
    recovered = runs.record_missing(engine, [ended("a"), ended("b", None)], run_id, dry_run=False)

    assert outcomes(recovered) == {"a": "settled", "b": "free"}
    assert books.balance(organization_id) == 5_000_000 - A_MINUTE_MICROS
    stored = books.rows("SELECT reconciled, reconciliation_run_id, webhook_at FROM calls")
    assert stored == [{"reconciled": True, "reconciliation_run_id": run_id, "webhook_at": None}] * 2
    assert books.broken() == []


def test_missing_calls_recorded_twice_change_nothing(books: Books, engine: Engine) -> None:
    """A repeated task or night finds its own work done."""
    acme(books)
    calls = [ended("a"), ended("b"), ended("stray", assistant="unknown")]
    first = runs.record_missing(engine, calls, begin(engine), dry_run=False)
    before = everything(books)
    second = runs.record_missing(engine, calls, begin(engine), dry_run=False)

    assert everything(books) == before
    assert outcomes(first) == outcomes(second) == {"a": "settled", "b": "settled", "stray": "unattributed"}
    assert [call.known for call in first] == [False] * 3
    assert [call.known for call in second] == [True] * 3


def test_dry_run_shows_outcomes_and_books_nothing(books: Books, engine: Engine) -> None:
    """What it shows is what happens, down to the call at which a debt limit is reached."""
    acme(books, topup_micros=A_MINUTE_MICROS)
    calls = [ended(f"call-{place}", 240) for place in range(4)]
    before = everything(books)
    shown = runs.record_missing(engine, calls, begin(engine, dry_run=True), dry_run=True)

    assert everything(books) == before
    assert Counter(outcomes(shown).values()) == {"settled": 2, "outstanding": 2}
    booked = runs.record_missing(engine, calls, begin(engine), dry_run=False)
    assert sorted(booked, key=str) == sorted(shown, key=str)
    assert books.broken() == []


def test_call_whose_report_waits_is_not_counted_as_lost(books: Books, engine: Engine) -> None:
    """The night records it, since it must be billed, but its webhook did arrive."""
    acme(books)
    accept(engine, [Delivery("vapi", "late:end-of-call-report", "end-of-call-report", b"{}")])
    runs.record_missing(engine, [ended("late")], begin(engine), dry_run=False)

    assert runs.load_reported(engine, ["late", "lost"]) == {"late"}
    assert books.value("SELECT reconciled FROM calls WHERE id = 'late'") is False


def test_drift_is_corrected_once(books: Books, engine: Engine) -> None:
    """A longer call costs the difference; the same correction again costs nothing."""
    organization_id = acme(books)
    runs.record_missing(engine, [ended("a", 60)], begin(engine), dry_run=False)
    first = runs.correct_drift(engine, [ended("a", 120)], dry_run=False)
    second = runs.correct_drift(engine, [ended("a", 120)], dry_run=False)

    assert (first, second) == ({"a": A_MINUTE_MICROS}, {"a": 0})
    assert books.balance(organization_id) == 5_000_000 - 2 * A_MINUTE_MICROS
    assert books.broken() == []


def test_drift_of_a_dry_run_is_only_shown(books: Books, engine: Engine) -> None:
    """A rehearsal names the difference and leaves the call as it is."""
    acme(books)
    runs.record_missing(engine, [ended("a", 60)], begin(engine), dry_run=False)
    before = everything(books)

    assert runs.correct_drift(engine, [ended("a", 30)], dry_run=True) == {"a": -A_MINUTE_MICROS // 2}
    assert everything(books) == before


def test_drift_of_cost_alone_moves_no_money(books: Books, engine: Engine) -> None:
    """What the provider charges the reseller is noted, and is none of the customer's business."""
    organization_id = acme(books)
    runs.record_missing(engine, [ended("a", 60)], begin(engine), dry_run=False)
    dearer = changed(ended("a", 60), provider_cost_micros=123_456)

    assert runs.correct_drift(engine, [dearer], dry_run=False) == {"a": 0}
    assert books.balance(organization_id) == 5_000_000 - A_MINUTE_MICROS
    assert books.value("SELECT provider_cost_micros FROM calls") == 123_456


def test_run_of_one_organization_sees_its_calls_alone(books: Books, engine: Engine) -> None:
    """Neither the calls of others nor those of nobody take part, on either side."""
    acme(books)
    other = books.organization("Other")
    books.route(other, "other-asst")
    calls = [listed("a", assistant_id="asst"), listed("b", assistant_id="other-asst"), listed("stray")]
    runs.record_missing(engine, [call.ended_call() for call in calls], begin(engine), dry_run=False)
    by_name, by_id, of_all = (begin(engine, organization=who) for who in ("Acme", str(other), None))

    def seen(run_id: UUID) -> tuple[list[str], list[str]]:
        theirs = [call.id for call in runs.calls_of_run(engine, run_id, calls)]
        ours = [row["call_id"] for row in runs.load_known_calls(engine, run_id, WINDOW, theirs)]
        return sorted(theirs), sorted(ours)

    assert seen(by_name) == (["a"], ["a"])
    assert seen(by_id) == (["b"], ["b"])
    assert seen(of_all) == (["a", "b", "stray"], ["a", "b", "stray"])


def test_run_of_an_unknown_organization_lists_the_known_ones(books: Books, engine: Engine) -> None:
    """A misspelt name is answered with the right ones, and no run is noted."""
    books.organization("Acme")

    with pytest.raises(UnknownOrganization, match=r"'Acne'.*Acme"):
        begin(engine, organization="Acne")
    assert books.value("SELECT count(*) FROM reconciliation_runs") == 0


def test_known_calls_are_those_of_the_window_and_those_listed(books: Books, engine: Engine) -> None:
    """The window is half-open on `created_at`; an older call takes part if the provider lists it."""
    acme(books)
    starts = {
        "too-old": WINDOW.listed_from - timedelta(milliseconds=1),
        "first": WINDOW.listed_from,
        "last": WINDOW.end - timedelta(milliseconds=1),
        "too-new": WINDOW.end,
    }
    calls = [
        listed(call_id, created_at=created, assistant_id="asst").ended_call() for call_id, created in starts.items()
    ]
    run_id = begin(engine)
    runs.record_missing(engine, calls, run_id, dry_run=False)

    def known(*ids: str) -> set[str]:
        return {row["call_id"] for row in runs.load_known_calls(engine, run_id, WINDOW, ids)}

    assert known() == {"first", "last"}
    assert known("too-old", "unheard-of") == {"first", "last", "too-old"}


def test_run_is_finished_with_its_findings_and_figures(books: Books, engine: Engine) -> None:
    """Figures and findings are there together, micros beyond floats included."""
    organization_id, run_id = acme(books), begin(engine)
    figures = {
        "provider_calls": 3,
        "known_calls": 2,
        "counts": {"missing": 1, "matched": 2},
        "ended_calls": 3,
        "ended_by_webhook": 2,
        "reliability_ratio": None,
        "recovered_calls": 1,
        "recovered_micros": 2**53 + 1,
        "outstanding_micros": 0,
        "report_path": "reports/x.parquet",
    }
    found = [
        Finding("missing", "a", organization_id, 2**53 + 1, "settled"),
        Finding("unreadable", None, detail={"problem": "no id"}),
    ]
    runs.finish_run(engine, run_id, found, figures)
    runs.note_alert(engine, run_id, "sent")
    run = books.rows("SELECT * FROM reconciliation_runs")[0]
    stored = books.rows("SELECT kind, call_id, amount_micros, outcome, detail FROM findings ORDER BY id")

    assert {name: run[name] for name in figures} == figures
    assert (run["state"], run["alert"], run["error"]) == ("completed", "sent", None)
    assert [tuple(row.values()) for row in stored] == [
        ("missing", "a", 2**53 + 1, "settled", {}),
        ("unreadable", None, None, None, {"problem": "no id"}),
    ]


def test_run_without_findings_is_finished(books: Books, engine: Engine) -> None:
    """A perfect day has nothing to store but its figures."""
    run_id = begin(engine)
    names = ("provider_calls", "known_calls", "ended_calls", "ended_by_webhook", "recovered_calls")
    figures = {**dict.fromkeys(names, 0), "recovered_micros": 0, "outstanding_micros": 0, "counts": {}}
    runs.finish_run(engine, run_id, [], {**figures, "reliability_ratio": None, "report_path": None})

    assert books.value("SELECT state FROM reconciliation_runs") == "completed"


def test_failed_run_keeps_its_reason(books: Books, engine: Engine) -> None:
    """Whoever looks at the run sees why it could not compare."""
    run_id = begin(engine)
    runs.fail_run(engine, run_id, "Vapi refuses VAPI_API_KEY (401)")

    run = books.rows("SELECT state, error, finished_at IS NOT NULL AS over FROM reconciliation_runs")[0]
    assert tuple(run.values()) == ("failed", "Vapi refuses VAPI_API_KEY (401)", True)


def test_window_reads_in_words() -> None:
    """Run names and messages say which night it is."""
    moved = replace(WINDOW, end=CREATED)

    assert moved.in_words == "2026-11-03 00:00 to 2026-11-03 12:00 UTC"
