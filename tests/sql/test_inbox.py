"""The inbox: one row per delivery, one holder per event, no step that is not in the table of steps."""

from uuid import uuid4

import pytest
from sqlalchemy import Connection

from billing.database import rows, transaction
from billing.errors import ClaimLost, ConstraintBroken
from tests.books import Books, Row

STATES = ["waiting", "active", "delayed", "done", "skipped", "parked", "dead"]
STEPS = {
    "waiting": {"active"},
    "active": {"done", "skipped", "parked", "dead", "delayed", "waiting"},
    "delayed": {"active", "done", "skipped", "parked", "dead", "waiting"},
    "parked": {"waiting", "skipped"},
    "done": {"waiting"},
    "skipped": {"waiting"},
    "dead": {"waiting", "skipped"},
}
ACCEPT = "SELECT accept_events(:providers, :keys, :types, CAST(:bodies AS bytea[]))"
CLAIM = "SELECT * FROM claim_events(:worker, :limit, CAST(:lease AS interval))"


def accept(books: Books, *keys: str) -> None:
    """Store deliveries of Vapi."""
    books.value(
        ACCEPT,
        providers=["vapi"] * len(keys),
        keys=list(keys),
        types=["status-update"] * len(keys),
        bodies=[b"{}"] * len(keys),
    )


def claim(books: Books, limit: int = 100, lease: str = "1 minute") -> list[Row]:
    """What claim_events answers."""
    return books.rows(CLAIM, worker="test", limit=limit, lease=lease)


def finish(books: Books, claimed: list[Row], state: str, reason: str | None = None) -> None:
    """Finish all claimed events alike."""
    books.value(
        "SELECT finish_events(:token, :ids, :states, :reasons)",
        token=claimed[0]["claim_token"],
        ids=[row["id"] for row in claimed],
        states=[state] * len(claimed),
        reasons=[reason] * len(claimed),
    )


def fail(books: Books, claimed: Row, *, dead: bool = False, lease: str = "1 minute") -> None:
    """Note a failed attempt."""
    books.value(
        "SELECT fail_event(:token, :id, 'Timeout', 'no answer', :dead, CAST(:lease AS interval))",
        token=claimed["claim_token"],
        id=claimed["id"],
        dead=dead,
        lease=lease,
    )


def event(books: Books, key: str) -> Row:
    """The row of an event."""
    return books.rows("SELECT * FROM events WHERE delivery_key = :key", key=key)[0]


def bring_to(books: Books, state: str) -> Row:
    """Lead a fresh event to a state by the functions; its last claim."""
    accept(books, "e")
    if state == "waiting":
        return event(books, "e")
    claimed = claim(books)
    if state == "delayed":
        fail(books, claimed[0])
    elif state != "active":
        finish(books, claimed, state, "because")
    return claimed[0]


def test_accepted_twice_is_one_event_that_counts(books: Books) -> None:
    """A repeated delivery, in the same batch or later, only counts up."""
    accept(books, "a", "b", "a")
    accept(books, "a")

    assert (event(books, "a")["deliveries"], event(books, "b")["deliveries"]) == (3, 1)
    assert [row["id"] for row in claim(books)] == [event(books, "a")["id"], event(books, "b")["id"]]


def test_claim_takes_oldest_up_to_its_limit(books: Books) -> None:
    """First come, first served."""
    for key in "abc":
        accept(books, key)

    assert [row["id"] for row in claim(books, limit=2)] == [event(books, key)["id"] for key in "ab"]


def test_two_claimers_share_nothing(books: Books) -> None:
    """While one worker's claim is not committed, another takes the others without waiting."""
    accept(books, *"abcdefgh")

    def in_transaction(connection: Connection, limit: int) -> set[int]:
        return {row["id"] for row in rows(connection, CLAIM, worker="w", limit=limit, lease="1 minute")}

    with transaction(books.engine) as first, transaction(books.engine) as second:
        of_first, of_second = in_transaction(first, 5), in_transaction(second, 5)

    assert (len(of_first), len(of_second)) == (5, 3)
    assert of_first.isdisjoint(of_second)


@pytest.mark.parametrize("state", ["done", "skipped", "parked", "dead"])
def test_finish_ends_the_claim(books: Books, state: str) -> None:
    """A finished event keeps its outcome and its reason, and nobody holds it."""
    bring_to(books, state)

    row = event(books, "e")
    assert (row["state"], row["reason"], row["claim_token"], row["attempts"]) == (state, "because", None, 1)
    assert (row["finished_at"] is None) == (state == "parked")


@pytest.mark.parametrize("state", ["skipped", "parked", "dead"])
def test_finish_without_reason_is_refused(books: Books, state: str) -> None:
    """Whoever does not apply an event says why."""
    accept(books, "e")

    with pytest.raises(ConstraintBroken):
        finish(books, claim(books), state)


def test_finish_after_lost_claim_is_refused(books: Books) -> None:
    """A worker whose lease was swept cannot commit: the event is another's by now."""
    accept(books, "e")
    zombie = claim(books, lease="-1 second")
    assert books.value("SELECT sweep_events()") == 1
    successor = claim(books)

    with pytest.raises(ClaimLost):
        finish(books, zombie, "done")
    with pytest.raises(ClaimLost):
        fail(books, zombie[0])

    finish(books, successor, "done")


def test_finish_of_part_that_is_lost_commits_nothing(books: Books) -> None:
    """One lost event in a batch takes the effects of the whole transaction with it."""
    accept(books, "a", "b")
    claimed = claim(books)
    organization_id = books.organization()

    with pytest.raises(ClaimLost):
        books.value(
            "SELECT finish_events(:token, :ids, ARRAY['done', 'done'], ARRAY[NULL, NULL]::text[]) "
            "FROM deduct_call_credits(:organization_id, 'c1', 5)",
            token=claimed[0]["claim_token"],
            ids=[claimed[0]["id"], 999_999],
            organization_id=organization_id,
        )

    assert books.balance(organization_id) == 0
    assert event(books, "a")["state"] == "active"


def test_fail_keeps_the_event_with_its_worker_and_notes_the_error(books: Books) -> None:
    """A failed attempt is delayed, stays claimed, and is on record."""
    accept(books, "e")
    claimed = claim(books)[0]

    fail(books, claimed)
    fail(books, claimed, dead=True)

    row = event(books, "e")
    assert (row["state"], row["reason"], row["attempts"]) == ("dead", "Timeout: no answer", 2)
    attempts = books.rows("SELECT attempt, error_class, message FROM event_attempts ORDER BY attempt")
    assert attempts == [{"attempt": n, "error_class": "Timeout", "message": "no answer"} for n in (1, 2)]


@pytest.mark.parametrize("delayed", [False, True])
def test_sweep_returns_only_what_lost_its_lease(books: Books, delayed: bool) -> None:
    """An event whose worker is gone goes back in line; one whose lease runs stays."""
    accept(books, "gone")
    gone = claim(books, lease="-1 second")[0]
    accept(books, "kept")
    claim(books)
    if delayed:
        fail(books, gone, lease="-1 second")

    assert books.value("SELECT sweep_events()") == 1
    assert (event(books, "gone")["state"], event(books, "kept")["state"]) == ("waiting", "active")


@pytest.mark.parametrize("state", STATES)
def test_replay_wakes_what_has_ended_and_nothing_else(books: Books, state: str) -> None:
    """Finished events can be replayed; one that is waiting or claimed is left to its holder."""
    bring_to(books, state)
    event_id = event(books, "e")["id"]

    woken = books.rows("SELECT * FROM replay_events(:ids) AS id", ids=[event_id])

    ended = state in {"done", "skipped", "parked", "dead"}
    assert woken == ([{"id": event_id}] if ended else [])
    assert event(books, "e")["state"] == ("waiting" if ended else state)


def test_replay_of_event_without_body_is_refused(books: Books, owner: Books) -> None:
    """Once a body was pruned there is nothing to replay."""
    bring_to(books, "done")
    owner.value("DELETE FROM event_bodies RETURNING event_id")

    assert books.rows("SELECT * FROM replay_events(:ids) AS id", ids=[event(books, "e")["id"]]) == []


def test_steps_of_events_are_those_of_the_table_and_no_other(books: Books, owner: Books) -> None:
    """Not even the superuser takes an event from one state to another that is not in the table."""
    taken: dict[str, set[str]] = {before: set() for before in STATES}
    for before in STATES:
        for after in STATES:
            owner.value("DELETE FROM events RETURNING id")
            bring_to(books, before)
            if can_step(owner, after):
                taken[before].add(after)

    assert {before: after - {before} for before, after in taken.items()} == STEPS


def can_step(owner: Books, after: str) -> bool:
    """Whether the database lets the one event go to a state, with all that this state asks for."""
    token = uuid4() if after in {"active", "delayed"} else None
    try:
        owner.value(
            "UPDATE events SET state = :state, reason = 'test', claim_token = CAST(:token AS uuid), "
            "lease_until = CASE WHEN CAST(:token AS uuid) IS NOT NULL THEN now() END, "
            "finished_at = CASE WHEN :ended THEN now() END RETURNING state",
            state=after,
            token=token,
            ended=after in {"done", "skipped", "dead"},
        )
    except ConstraintBroken as refusal:
        return "cannot go from" not in str(refusal)
    return True


def test_queue_view_counts_by_state(books: Books) -> None:
    """Health reads how many events are in which state, and how old the oldest is."""
    accept(books, "a", "b")
    claim(books, limit=1)

    counts = books.rows("SELECT state, events FROM event_queue ORDER BY state")
    assert counts == [{"state": "active", "events": 1}, {"state": "waiting", "events": 1}]


def test_heartbeat_is_one_row_per_worker(books: Books) -> None:
    """A worker that beats twice is one worker, seen later."""
    for _ in range(2):
        books.value("SELECT beat_heart('w')")

    row = books.rows("SELECT * FROM workers")[0]
    assert row["seen_at"] > row["started_at"]
