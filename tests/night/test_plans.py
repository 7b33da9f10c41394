"""A plan books exactly what its rehearsal showed, in one transaction, or nothing; and what it books is never lost."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from billing import plans, repair, runs
from billing.database import transaction, value
from billing.figures import Finding, GroupReliability, NightMoney, Reliability
from billing.plans import PlanOutdated, UnknownPlan
from billing.repair import Repair
from billing.vapi import EndedCall
from tests.books import Books

from .bookkeeping import A_MINUTE_MICROS, FIGURES, WINDOW, acme, begin, ended, everything
from .listed import AS_OF

CALLS = [ended(f"call-{place}", 240) for place in range(4)]


@pytest.fixture
def limited(books: Books) -> UUID:
    """An organization whose money is enough for two of four calls, debt included."""
    return acme(books, topup_micros=A_MINUTE_MICROS)


def rehearsed(
    engine: Engine, calls: Sequence[EndedCall] = CALLS, changed: Sequence[EndedCall] = ()
) -> tuple[UUID, Repair]:
    """A rehearsal that has ended."""
    plan_id = begin(engine, dry_run=True)
    shown = plans.rehearse(engine, calls, changed, calls, plan_id)
    found = [Finding("missing", call.call_id, call.organization_id, call.amount_micros) for call in shown.recorded]
    groups = {"organizations": [GroupReliability("Acme", Reliability(2, 3))], "assistants": []}
    figures = {
        **FIGURES,
        "money": [NightMoney("USD", recovered_micros=5)],
        "groups": groups,
        "plan": shown.plan,
        "plan_digest": shown.digest,
    }
    runs.finish_run(engine, plan_id, found, figures)
    return plan_id, shown


def applied(engine: Engine, plan_id: UUID, calls: Sequence[EndedCall] = CALLS) -> UUID:
    """The run that has booked the plan, and done nothing after that."""
    run_id = uuid4()
    runs.start_run(engine, run_id, plans.read_plan(engine, plan_id), None)
    plans.apply_plan(engine, calls, [], calls, run_id, plan_id)
    return run_id


def test_plan_knows_what_it_is_about(books: Books, engine: Engine) -> None:
    """The same window and organization, as of the same moment."""
    organization_id = books.organization("Acme")
    rehearsal = begin(engine, organization="Acme", dry_run=True)
    runs.finish_run(engine, rehearsal, [], {**FIGURES, "plan_digest": "abc"})
    plan = plans.read_plan(engine, rehearsal)

    assert (plan.window, plan.as_of, plan.organization) == (WINDOW, AS_OF, str(organization_id))
    assert (plan.dry_run, plan.applies_run_id, plan.plan_digest) == (False, rehearsal, "abc")
    assert not plan.is_booked


def test_only_a_finished_rehearsal_is_a_plan_and_only_once(books: Books, engine: Engine) -> None:
    """An unknown id, a real night and a plan that was carried out are refused, each with its reason."""
    night, rehearsal, unfinished = begin(engine), begin(engine, dry_run=True), begin(engine, dry_run=True)
    runs.finish_run(engine, rehearsal, [], {**FIGURES, "plan_digest": "abc"})
    carried_out = uuid4()
    runs.start_run(engine, carried_out, plans.read_plan(engine, rehearsal), None)
    runs.finish_run(engine, carried_out, [], FIGURES)

    for other in (uuid4(), night, unfinished):
        with pytest.raises(UnknownPlan, match="is no rehearsal that has ended"):
            plans.read_plan(engine, other)
    with pytest.raises(UnknownPlan, match=f"was carried out by run {carried_out}"):
        plans.read_plan(engine, rehearsal)


def test_rehearsal_shows_what_would_happen_and_books_nothing(limited: UUID, books: Books, engine: Engine) -> None:
    """Across batches, down to the call at which a debt limit is reached, with every transfer."""
    repair.record_calls(engine, [ended("known", 60)], begin(engine))
    before = everything(books)
    shown = plans.rehearse(engine, CALLS, [ended("known", 120)], CALLS[:1], begin(engine, dry_run=True))

    assert everything(books) == before
    assert Counter(call.outcome for call in shown.recorded) == {"settled": 1, "outstanding": 3}
    assert [call.difference_micros for call in shown.corrected] == [A_MINUTE_MICROS]
    assert {row["idempotency_key"]: row["amount_micros"] for row in shown.transfers} == {
        "call:call-0": -4 * A_MINUTE_MICROS,
        "call:known:correction:1": -A_MINUTE_MICROS,
    }
    booked = repair.record_calls(engine, CALLS, begin(engine))
    assert sorted(booked, key=str) == sorted(shown.recorded, key=str)


def test_plan_names_every_call_whatever_becomes_of_it(limited: UUID, books: Books, engine: Engine) -> None:
    """Those that move no money too: owed, nobody's, free of charge."""
    calls = [*CALLS, ended("stray", 60, assistant="nobody"), ended("unconnected", None)]
    plan_id, shown = rehearsed(engine, calls)
    plan = books.value("SELECT plan FROM reconciliation_runs WHERE id = :id", id=plan_id)

    assert Counter(call["outcome"] for call in plan["calls"]) == {
        "settled": 2,
        "outstanding": 2,
        "unattributed": 1,
        "free": 1,
    }
    assert {call["call_id"] for call in plan["calls"]} == {call.id for call in calls}
    assert plan["corrections"] == []
    assert plan["transfers"] == list(shown.transfers)


def test_plan_is_carried_out_as_it_was_shown(limited: UUID, books: Books, engine: Engine) -> None:
    """The same charges and transfers, in one transaction, which leaves its mark on the plan."""
    plan_id, shown = rehearsed(engine)
    run_id = begin(engine)
    done = plans.apply_plan(engine, CALLS, [], CALLS, run_id, plan_id)
    mark = books.rows("SELECT applied_by_run_id, applied_at FROM reconciliation_runs WHERE id = :id", id=plan_id)[0]

    assert done.digest == shown.digest
    assert list(done.transfers) == list(shown.transfers)
    assert books.value("SELECT count(*) FROM transfers WHERE kind = 'call'") == len(shown.transfers) > 0
    assert mark["applied_by_run_id"] == run_id
    assert mark["applied_at"] == books.value("SELECT booked_at FROM transfers WHERE kind = 'call' LIMIT 1")
    assert books.broken() == []


@pytest.mark.parametrize("event", ["topup", "spent", "webhook", "duration", "another call", "price", "route"])
def test_plan_is_refused_once_the_world_has_moved(limited: UUID, books: Books, engine: Engine, event: str) -> None:
    """Money, prices, routes, a late webhook or another list: whatever would change a charge, nothing is booked."""
    plan_id, _ = rehearsed(engine)
    calls: list[EndedCall] = CALLS
    match event:
        case "topup":
            books.credit(limited, 50_000_000, "topup:pi_2")
        case "spent":
            books.deduct(limited, "other", 4 * A_MINUTE_MICROS)
        case "webhook":
            repair.record_calls(engine, CALLS[:1], begin(engine))
            calls = CALLS[1:]
        case "duration":
            calls = [*CALLS[:3], ended("call-3", 239)]
        case "another call":
            calls = [*CALLS, ended("call-4", 60)]
        case "price":
            books.price(limited, 500_000)
        case _:
            books.route(books.organization("Globex"), "asst", since="2026-11-01")
    before = everything(books)

    with pytest.raises(PlanOutdated, match="Nothing was booked"):
        plans.apply_plan(engine, calls, [], calls, begin(engine), plan_id)
    assert everything(books) == before
    assert not plans.read_plan(engine, plan_id).is_booked


def test_plan_that_the_same_run_applies_again_is_the_same_answer(limited: UUID, books: Books, engine: Engine) -> None:
    """A connection that broke at the commit makes the task come again."""
    plan_id, _ = rehearsed(engine)
    run_id = begin(engine)
    first = plans.apply_plan(engine, CALLS, [], CALLS, run_id, plan_id)
    before = everything(books)
    second = plans.apply_plan(engine, CALLS, [], CALLS, run_id, plan_id)

    assert (second.digest, second.lost) == (first.digest, first.lost)
    assert everything(books) == before


def test_plan_whose_process_died_after_it_was_booked_is_finished(limited: UUID, books: Books, engine: Engine) -> None:
    """By the next run, with the figures and findings of the rehearsal, and without booking anything."""
    plan_id, shown = rehearsed(engine)
    dead = applied(engine, plan_id)
    before = everything(books)
    plan, run_id = plans.read_plan(engine, plan_id), uuid4()
    night = plans.finish_plan(
        engine, run_id, plan_id, runs.start_run(engine, run_id, plan, None), "http://prefect/run"
    )
    run = books.rows("SELECT * FROM reconciliation_runs WHERE id = :id", id=run_id)[0]

    assert plan.is_booked
    assert everything(books) == before
    assert (night.reliability, night.recovered[:]) == (Reliability(2, 3), tuple(shown.recorded))
    assert night.money == [NightMoney("USD", recovered_micros=5)]
    assert night.by_organization == [GroupReliability("Acme", Reliability(2, 3))]
    assert [finding.call_id for finding in night.findings] == [call.call_id for call in shown.recorded]
    assert (run["state"], run["recovered_calls"], run["reliability_ratio"]) == ("completed", 1, Decimal("0.66666667"))
    assert books.value("SELECT count(*) FROM findings WHERE run_id = :id", id=run_id) == len(CALLS)
    assert books.value("SELECT state FROM reconciliation_runs WHERE id = :id", id=dead) == "failed"
    with pytest.raises(UnknownPlan, match=f"was carried out by run {run_id}"):
        plans.read_plan(engine, plan_id)


def test_plan_that_a_living_run_has_booked_is_left_to_it(limited: UUID, engine: Engine) -> None:
    """Neither booked nor finished a second time; the message says whose it is."""
    plan_id, _ = rehearsed(engine)
    first, second = uuid4(), uuid4()
    with runs.marked_alive(engine, first):
        runs.start_run(engine, first, plans.read_plan(engine, plan_id), None)
        plans.apply_plan(engine, CALLS, [], CALLS, first, plan_id)
        plan = runs.start_run(engine, second, plans.read_plan(engine, plan_id), None)

        with pytest.raises(UnknownPlan, match=f"run {first} is carrying out plan"):
            plans.finish_plan(engine, second, plan_id, plan, None)
        with pytest.raises(UnknownPlan, match=f"run {first} has booked plan"):
            plans.apply_plan(engine, CALLS, [], CALLS, second, plan_id)


@pytest.mark.timeout(60)
def test_plan_and_a_worker_that_cross_on_two_wallets_both_come_through(
    books: Books, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan locks its wallets in the order that everybody keeps, whatever the order of its batches."""
    monkeypatch.setattr(plans, "BATCH", 1)
    first, second = sorted(books.organization(name) for name in ("Acme", "Globex"))
    books.route(first, "of-first")
    books.route(second, "of-second")
    calls = [ended("a", assistant="of-second"), ended("b", assistant="of-first")]
    deduct = "SELECT success FROM deduct_call_credits(:wallet, :call, 1)"
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with ThreadPoolExecutor() as threads, transaction(engine) as worker:
        value(worker, deduct, wallet=first, call="x")
        rehearsal = threads.submit(plans.rehearse, engine, calls, [], [], begin(engine, dry_run=True))
        while not books.value(waiting) and not rehearsal.done():
            pass
        both = [value(worker, deduct, wallet=second, call="y")]
    assert both == [True]
    assert len(rehearsal.result().recorded) == 2
