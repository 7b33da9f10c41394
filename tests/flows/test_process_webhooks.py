"""What lies in the inbox becomes bookings, whatever lies beside it."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from prefect import flow

from billing import applying, inbox
from billing.deliveries import Delivery
from billing.errors import BillingError, ClaimLost, InstallationBroken, TransactionConflict
from billing.inbox import ClaimedEvent, Event
from flows.process_webhooks import process_webhooks
from tasks.inbox import apply_event, apply_events
from tasks.retries import DELAYS_SECONDS, RETRIES, TRIES

from .stage import Run, Stage, artifacts, as_owner, in_loop, run, table, task_runs

QUICK = [0.01] * RETRIES


def claim(stage: Stage, worker: str = "test") -> list[ClaimedEvent]:
    """Everything that waits, claimed outside of any run."""
    return inbox.claim(stage.engine, worker, 1000)


@flow(name="retry-one")
async def retry_one(event: ClaimedEvent) -> None:
    """The task run that a failed event gets, without its waits."""
    await apply_event.with_options(retry_delay_seconds=QUICK)(event)


def retried(event: ClaimedEvent) -> BaseException | None:
    """What the retries of an event ended with."""

    async def scenario() -> BaseException | None:
        try:
            await retry_one(event)
        except BillingError as error:
            return error
        return None

    return in_loop(scenario())


def shown(ended: Run) -> Any:
    """The table of the events that a run did not apply."""
    return table(artifacts(ended.id)["events-not-applied"])


def test_events_of_both_providers_become_bookings(stage: Stage) -> None:
    """One run takes them all with two tasks, says what it did, shows no table; a second one finds nothing."""
    calls = stage.place_calls(12)
    stage.pay(5_000)
    stage.report(calls)
    first = run(process_webhooks)
    recorded = task_runs(first.id, 2)
    second = run(process_webhooks)

    assert first.result == {"done": 14, "done after retry": 0, "retried in vain": 0}
    assert first.name == (
        "12 vapi end-of-call-report, 1 stripe checkout.session.completed, 1 stripe payment_intent.succeeded"
    )
    assert sorted(known.name for known in recorded) == [f"apply {first.name}", "claim up to 1000 events"]
    assert (first.state.message, artifacts(first.id)) == ("14 done", {})
    assert (second.result, second.name, second.state.message) == ({}, "nothing waiting", "nothing to do")
    assert stage.charged() == {call.id for call in calls}
    assert len(stage.books.rows("SELECT FROM transfers WHERE kind = 'topup'")) == 2
    assert stage.books.broken() == []


def test_single_event_names_its_run(stage: Stage) -> None:
    """At low volume a person finds the run of a webhook by its name."""
    calls = stage.place_calls(1)
    stage.report(calls)
    ended = run(process_webhooks)

    assert ended.name == f"vapi end-of-call-report (event {stage.event(calls[0])['id']})"
    assert stage.event(calls[0])["flow_run_id"] == ended.id


def test_batch_limit_bounds_a_run(stage: Stage) -> None:
    """What is beyond the limit waits for the next run."""
    stage.report(stage.place_calls(5))
    run(process_webhooks, batch_limit=3)

    assert stage.states() == {"done": 3, "waiting": 2}


def test_report_of_nobody_is_parked_until_a_route_names_its_organization(stage: Stage) -> None:
    """The call is kept, the event parked with its reason; a route charges the call and ends the event."""
    calls = stage.place_calls(1, assistant="asst-new")
    stage.report(calls)
    ended = run(process_webhooks)
    parked = stage.event(calls[0])
    added = stage.books.route(stage.organization_id, "asst-new")
    woken = run(process_webhooks)

    assert (parked["state"], parked["reason"]) == ("parked", "unknown_organization")
    assert ended.name == f"vapi end-of-call-report (event {parked['id']}): 1 parked"
    assert added == {"charged_calls": 1, "woken_events": 1}
    assert woken.result["done"] == 1
    assert stage.charged() == {calls[0].id}
    assert stage.books.broken() == []


def test_unreadable_event_is_dead_at_once_with_its_reason(stage: Stage) -> None:
    """It costs no retry, keeps its body, and does not touch the event beside it."""
    calls = stage.place_calls(1)
    stage.report(calls)
    broken = b'{"message": {"type": "end-of-call-report", "call": {"id": "x", "createdAt": "yesterday"}}}'
    inbox.accept(stage.engine, [Delivery("vapi", "x:end-of-call-report", "end-of-call-report", broken)])
    ended = run(process_webhooks)
    dead = stage.books.rows("SELECT * FROM events JOIN event_bodies ON event_id = id WHERE state = 'dead'")

    assert ended.result == {"done": 1, "dead": 1, "done after retry": 0, "retried in vain": 0}
    assert [row["body"] for row in dead] == [broken]
    assert dead[0]["reason"].startswith("UnreadablePayload: ")
    assert dead[0]["attempts"] == 1
    assert (ended.name, ended.state.message) == ("2 vapi end-of-call-report: 1 dead, 1 done", "1 dead, 1 done")
    assert shown(ended) == [
        {
            "state": "dead",
            "event": "vapi end-of-call-report",
            "reason": dead[0]["reason"],
            "look at it": f"calltally events show {dead[0]['id']}",
            "next step": f"mend the cause, then: calltally events replay {dead[0]['id']}",
        }
    ]


@pytest.mark.usefixtures("own_tables")
def test_event_that_the_database_refuses_for_ever_is_dead_at_once(stage: Stage) -> None:
    """A broken constraint will not pass; the events beside it are done in the same run."""
    unlucky, *lucky = stage.place_calls(6)
    stage.report([unlucky, *lucky])
    stage.fail(unlucky, times=1000, sqlstate="23514")
    ended = run(process_webhooks)

    assert ended.result == {"done": 5, "dead": 1, "done after retry": 0, "retried in vain": 0}
    assert stage.event(unlucky)["state"] == "dead"
    assert [row["error_class"] for row in stage.attempts(unlucky)] == ["ConstraintBroken"]
    assert stage.charged() == {call.id for call in lucky}


@pytest.mark.usefixtures("own_tables")
def test_event_that_fails_twice_is_done_by_its_own_retries(stage: Stage) -> None:
    """Each failed attempt is kept, and the effect is there once."""
    calls = stage.place_calls(1)
    stage.report(calls)
    stage.fail(calls[0], times=2)
    claimed = claim(stage)[0]

    assert retried(claimed) is None
    assert stage.event(calls[0])["state"] == "done"
    assert [row["error_class"] for row in stage.attempts(calls[0])] == ["TransactionConflict"] * 2
    assert stage.event(calls[0])["attempts"] == 3
    assert stage.charged() == {calls[0].id}


@pytest.mark.usefixtures("own_tables")
def test_event_that_always_fails_is_dead_after_its_last_retry(stage: Stage) -> None:
    """One attempt and three retries, each with its error; the last error is the reason."""
    calls = stage.place_calls(1)
    stage.report(calls)
    stage.fail(calls[0], times=1000)
    claimed = claim(stage)[0]

    assert isinstance(retried(claimed), TransactionConflict)
    assert [row["attempt"] for row in stage.attempts(calls[0])] == [1, 2, 3, 4]
    assert stage.event(calls[0])["state"] == "dead"
    assert stage.event(calls[0])["reason"] == "TransactionConflict: this call is unlucky"
    assert stage.books.broken() == []


def test_event_whose_claim_is_lost_is_left_to_its_new_owner(stage: Stage) -> None:
    """A zombie's retry ends quietly and changes nothing."""
    calls = stage.place_calls(1)
    stage.report(calls)
    claimed = claim(stage)[0]
    as_owner(stage.engine, "UPDATE events SET claim_token = gen_random_uuid()")

    assert retried(claimed) is None
    assert stage.event(calls[0])["state"] == "active"
    assert stage.charged() == set()


MISSING = ("ALTER FUNCTION record_calls RENAME TO gone", "ALTER FUNCTION gone RENAME TO record_calls")
FORBIDDEN = (
    "REVOKE EXECUTE ON FUNCTION finish_events FROM calltally_app, calltally_worker",
    "GRANT EXECUTE ON FUNCTION finish_events TO calltally_app, calltally_worker",
)


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize(("broken", "mended"), [MISSING, pytest.param(*FORBIDDEN, marks=pytest.mark.slow)])
def test_what_the_installation_lacks_ends_no_event(stage: Stage, broken: str, mended: str) -> None:
    """They wait as if nobody had tried, and are applied once it is back; what needs nothing of it is applied."""
    calls = stage.place_calls(5)
    stage.report(calls)
    stage.pay(5_000)
    as_owner(stage.engine, broken)
    failed = run(process_webhooks)
    waiting = [stage.event(call) for call in calls]
    as_owner(stage.engine, mended)
    then = run(process_webhooks)

    assert failed.state.is_failed()
    assert isinstance(failed.result, InstallationBroken)
    assert {(event["state"], event["attempts"], event["suspected"]) for event in waiting} == {("waiting", 0, False)}
    assert failed.name.endswith("InstallationBroken, the rest waits")
    assert then.result["done"] == (5 if "record_calls" in broken else 7)
    assert stage.charged() == {call.id for call in calls}
    assert stage.books.rows("SELECT FROM event_attempts") == []
    assert stage.books.broken() == []


@pytest.mark.usefixtures("own_tables")
def test_retry_that_meets_a_broken_installation_gives_its_event_back(stage: Stage) -> None:
    """Without another attempt of its own, and without a further retry."""
    calls = stage.place_calls(1)
    stage.report(calls)
    claimed = claim(stage)[0]
    inbox.fail(stage.engine, inbox.Failure(claimed, TransactionConflict("busy")), dead=False)
    as_owner(stage.engine, MISSING[0])

    assert isinstance(retried(claimed), InstallationBroken)
    assert (stage.event(calls[0])["state"], stage.event(calls[0])["attempts"]) == ("waiting", 1)


@pytest.mark.usefixtures("own_tables")
def test_transient_failure_is_tried_as_often_as_it_is_said_and_waits_as_long(stage: Stage) -> None:
    """In its batch, at once alone, and after 2, 4 and 8 s; then it is dead. The same number stands on every page."""
    calls = stage.place_calls(1)
    stage.report(calls)
    stage.fail(calls[0], times=1000)
    ended = run(process_webhooks)
    attempts = stage.attempts(calls[0])
    waits = [(later["failed_at"] - earlier["failed_at"]).total_seconds() for earlier, later in pairwise(attempts)]

    assert ended.result == {"done after retry": 0, "retried in vain": 1}
    assert [row["attempt"] for row in attempts] == list(range(1, TRIES + 1))
    assert (stage.event(calls[0])["state"], stage.event(calls[0])["attempts"]) == ("dead", TRIES)
    assert DELAYS_SECONDS == [2, 4, 8]
    assert all(wait >= planned for wait, planned in zip(waits[1:], DELAYS_SECONDS, strict=True))


def test_events_of_a_dead_worker_are_applied_one_by_one_beside_new_ones(stage: Stage) -> None:
    """By one run, which says so; a new event does not wait for them, and none of them for another."""
    left = stage.place_calls(3)
    stage.report(left)
    claim(stage, "dead-worker")
    as_owner(stage.engine, "UPDATE events SET lease_until = now() - interval '1 s'")
    fresh = stage.place_calls(2)
    stage.report(fresh)
    ended = run(process_webhooks)

    assert ended.result["done"] == 5
    assert ended.name == "5 vapi end-of-call-report"
    assert stage.charged() == {call.id for call in [*left, *fresh]}
    assert len({stage.event(call)["attempts"] for call in left}) == 1
    assert {row["error_class"] for call in left for row in stage.attempts(call)} == {"WorkerDied"}
    assert "apply one by one what workers died with" in {known.name for known in task_runs(ended.id, 3)}


@flow(name="apply-claimed")
async def apply_claimed(events: list[ClaimedEvent]) -> list[ClaimedEvent]:
    """The events of a batch that are to be tried again."""
    return [failure.event for failure in (await apply_events(events)).failures]


@pytest.mark.usefixtures("own_tables")
def test_lost_claim_does_not_hold_up_the_rest_of_its_batch(stage: Stage) -> None:
    """Of two failing events one was taken away meanwhile; the other still gets its retries, and the rest is done."""
    lost, unlucky, lucky = stage.place_calls(3)
    stage.report([lost, unlucky, lucky])
    stage.fail(unlucky, times=1000)
    claimed = claim(stage)
    as_owner(
        stage.engine,
        f"UPDATE events SET claim_token = gen_random_uuid() WHERE starts_with(delivery_key, '{lost.id}')",
    )
    again = in_loop(apply_claimed(claimed))

    assert [event.id for event in again] == [stage.event(unlucky)["id"]]
    assert stage.event(unlucky)["state"] == "delayed"
    assert stage.event(lucky)["state"] == "done"
    assert stage.event(lost)["state"] == "active"


@pytest.mark.usefixtures("own_tables")
def test_failing_event_whose_claim_is_lost_is_left_to_its_new_owner(stage: Stage) -> None:
    """Nobody may note its failure any more, and that fails neither the batch nor its own task run."""
    lost, lucky = stage.place_calls(2)
    stage.report([lost, lucky])
    stage.fail(lost, times=1000)
    claimed = claim(stage)
    as_owner(
        stage.engine,
        f"UPDATE events SET claim_token = gen_random_uuid() WHERE starts_with(delivery_key, '{lost.id}')",
    )
    in_loop(apply_claimed(claimed))

    assert stage.event(lucky)["state"] == "done"
    assert (stage.event(lost)["state"], stage.attempts(lost)) == ("active", [])


def test_events_of_a_dead_worker_are_swept_and_applied(stage: Stage) -> None:
    """Once their lease has ended, the next run takes them; the zombie cannot book them any more."""
    calls = stage.place_calls(3)
    stage.report(calls)
    zombie = claim(stage, "dead-worker")
    assert run(process_webhooks).result == {}
    as_owner(stage.engine, "UPDATE events SET lease_until = now() - interval '1 s'")

    assert run(process_webhooks).result["done"] == 3
    with pytest.raises(ClaimLost):
        applying.apply(stage.engine, zombie)
    assert stage.charged() == {call.id for call in calls}
    assert len(stage.books.rows("SELECT FROM transfers WHERE kind = 'call'")) == 3


@pytest.mark.usefixtures("own_tables")
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_poison_delays_none_of_a_thousand(stage: Stage) -> None:
    """The good ones are done before its first wait; its own task run waits 2, 4 and 8 s, and then it is dead."""
    poison, *good = stage.place_calls(1001)
    stage.report([poison, *good])
    stage.fail(poison, times=1000)
    ended = run(process_webhooks, batch_limit=2000)
    _in_the_batch, *moments = [row["failed_at"] for row in stage.attempts(poison)]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]
    retry = f"retry {Event(stage.event(poison)['id'], 'vapi', 'end-of-call-report').name}"
    latest = stage.books.value("SELECT max(finished_at) FROM events WHERE state = 'done'")

    assert ended.result == {"done": 1000, "done after retry": 0, "retried in vain": 1}
    assert stage.states() == {"done": 1000, "dead": 1}
    assert latest < moments[1]
    assert all(wait >= planned for wait, planned in zip(waits, DELAYS_SECONDS, strict=True))
    assert retry in {known.name for known in task_runs(ended.id, 3)}
    assert stage.books.broken() == []


def test_run_that_cannot_reach_the_database_says_what_it_was_about(
    stage: Stage, changed: Callable[..., None]
) -> None:
    """Of a row of runs that failed nobody could tell by their names what they were to do."""
    changed(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    ended = run(process_webhooks)

    assert ended.state.is_failed()
    assert ended.name == "take what waits"
