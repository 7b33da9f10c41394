"""What the system before this one got wrong, each mistake by its name."""

from calltally.sandbox.calls import Call
from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls

from .stage import Run, Stage, run


def figures(stage: Stage, night: Run) -> tuple[int, int, int]:
    """Of a night: ended calls, those that told us by webhook, and those that it recovered."""
    row = stage.books.rows("SELECT * FROM reconciliation_runs WHERE flow_run_id = :id", id=night.id)[0]
    return row["ended_calls"], row["ended_by_webhook"], row["recovered_calls"]


def test_recovered_call_is_billed_and_not_only_inserted(stage: Stage) -> None:
    """The wallet pays for it: the insert alone had looked like success."""
    calls = stage.place_calls(3)
    before = stage.books.balance(stage.organization_id)
    run(reconcile_calls)
    charges = stage.books.charges(stage.organization_id)
    cost = sum(charge["amount_micros"] for charge in charges)

    assert {charge["idempotency_key"] for charge in charges} == {f"call:{call.id}" for call in calls}
    assert {charge["state"] for charge in charges} == {"settled"}
    assert cost > 0
    assert stage.books.balance(stage.organization_id) == before - cost
    assert stage.books.value("SELECT bool_and(reconciled) FROM calls") is True


def test_provider_s_own_org_id_is_no_tenant(stage: Stage) -> None:
    """Every call bears the reseller's own Vapi org; an organization of that very name gets nothing charged."""
    call = stage.place_calls(1, assistant="asst-nobody")[0]
    shown = stage.sandbox.vapi.shown(call.id)
    tenant = stage.books.organization(str(shown["orgId"]))
    run(reconcile_calls)

    assert stage.books.charges(tenant) == []
    assert stage.books.value("SELECT organization_id FROM calls WHERE id = :id", id=call.id) is None


def test_call_in_progress_is_not_missing(stage: Stage) -> None:
    """Neither stored nor billed nor counted, until it has ended; then once, with its real duration."""
    running = stage.place_calls(1, in_progress=1)[0]
    first = run(reconcile_calls)
    unstored = stage.books.value("SELECT count(*) FROM calls")
    stage.sandbox.vapi.finish_call(running.id, duration_ms=600_000)
    run(reconcile_calls)

    assert figures(stage, first) == (0, 0, 0)
    assert unstored == 0
    assert stage.charged() == {running.id}


def test_repaired_calls_do_not_improve_tomorrow_s_ratio(stage: Stage) -> None:
    """Nor does the webhook that comes after the repair: how a call was first seen stays so for ever."""
    calls: list[Call] = stage.place_calls(10)
    stage.report(calls[3:])
    run(process_webhooks)
    first = run(reconcile_calls)
    stage.report(calls[:3])
    run(process_webhooks)
    second = run(reconcile_calls)

    assert figures(stage, first) == (10, 7, 3)
    assert figures(stage, second) == (10, 7, 0)
    assert len(stage.charged()) == 10
