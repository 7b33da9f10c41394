"""Wherever the work on the inbox is stopped, doing it again comes to the books of work that was never stopped."""

import pytest

from billing.errors import DatabaseUnavailable
from tests.books import Row

from .stops import ProcessDied, Stop, die, kill_backend, stopping
from .story import Story, payment, report, status_update, unreadable, work

NEVER = 10**9


def begin(unlucky: Story) -> Story:
    """Calls of which one is too much for the wallet, a payment told twice, and three kinds of bad events."""
    story = unlucky.from_the_start()
    organization_id = story.open_wallet(micros=1_000_000, debt_limit_micros=0)
    story.accept(
        report("call-1"),
        report("unlucky"),
        report("call-2"),
        report("nobody", assistant="unknown"),
        status_update("call-1"),
        unreadable("x"),
    )
    story.accept(*payment("pi_1", organization_id, amount_minor=20))
    return story


@pytest.fixture(scope="module")
def undisturbed(unlucky: Story) -> dict[str, list[Row]]:
    """What it comes to, stopped nowhere."""
    story = begin(unlucky)
    work(story.engine)
    assert story.books.broken() == []
    return story.content()


@pytest.fixture(scope="module")
def moments(unlucky: Story) -> list[str]:
    """All moments of work that is stopped nowhere."""
    story = begin(unlucky)
    with stopping(story.engine, NEVER, die) as seen:
        work(story.engine)
    return seen.seen


def stopped(story: Story, number: int, stop: Stop) -> bool:
    """Work until the stop, which ends the work unless it comes after everything; whether there was one."""
    with stopping(story.engine, number, stop) as moments:
        try:
            work(story.engine)
        except (ProcessDied, DatabaseUnavailable):
            return moments.came
    assert not moments.came or moments.seen[number:] == ["after commit"]
    return moments.came


def halves(story: Story) -> list[Row]:
    """Calls that are stored although their event has not ended, and events that are done without their call."""
    return story.books.rows(
        "SELECT delivery_key, state, calls.id FROM events LEFT JOIN calls"
        " ON calls.id = split_part(delivery_key, ':', 1) WHERE type = 'end-of-call-report'"
        " AND (state IN ('done', 'parked')) <> (calls.id IS NOT NULL)"
    )


def check(unlucky: Story, number: int, stop: Stop, undisturbed: dict[str, list[Row]]) -> None:
    """Stop at this moment: nothing is done by halves. Let the lease end, work again, and compare everything."""
    story = begin(unlucky)
    assert stopped(story, number, stop)
    story.engine.dispose()
    assert halves(story) == []
    assert story.books.broken() == []
    story.lose_leases()
    work(story.engine)
    assert story.content() == undisturbed, f"stopped at moment {number}"
    assert story.books.broken() == []


def test_undisturbed_work_ends_every_event_as_it_should(undisturbed: dict[str, list[Row]]) -> None:
    """The story has every kind of end in it, so that the comparison means something."""
    assert {row["delivery_key"]: row["state"] for row in undisturbed["events"]} == {
        "call-1:end-of-call-report": "done",
        "call-1:status-update:ended": "skipped",
        "call-2:end-of-call-report": "done",
        "evt_pi_1_0": "done",
        "evt_pi_1_1": "done",
        "nobody:end-of-call-report": "parked",
        "unlucky:end-of-call-report": "dead",
        "x:end-of-call-report": "dead",
    }
    assert [(row["idempotency_key"], row["state"]) for row in undisturbed["charges"]] == [
        ("call:call-1", "settled"),
        ("call:call-2", "outstanding"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "step"), [(die, 1), (kill_backend, 5), pytest.param(kill_backend, 1, marks=pytest.mark.slow)]
)
def test_work_that_is_stopped_at_any_moment_comes_to_the_same_books(
    unlucky: Story, undisturbed: dict[str, list[Row]], moments: list[str], stop: Stop, step: int
) -> None:
    """Before and after each statement and each commit; the process dies, or survives its connection."""
    for number in range(0, len(moments), step):
        check(unlucky, number, stop, undisturbed)


def test_moments_are_in_claiming_applying_failing_and_finishing(unlucky: Story, moments: list[str]) -> None:
    """Nothing that changes events or books is left out, and after the last moment no stop comes."""
    for function in (
        "claim_events",
        "sweep_events",
        "record_calls",
        "credit_payments",
        "fail_event",
        "finish_events",
    ):
        assert {"before", "after"} == {moment.split()[0] for moment in moments if function in moment}
    assert moments.count("before commit") == moments.count("after commit") > 5
    assert not stopped(begin(unlucky), len(moments), die)
