"""What kills its worker is found and ended; whoever was beside it is applied."""

from datetime import timedelta

import pytest

from billing import applying, inbox
from billing.alerts import note_dead_events
from billing.errors import TransactionConflict
from billing.inbox import Failure
from tests.books import Row

from .story import Story, report

EXPIRED = timedelta(seconds=-1)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims expire at once, as those of a worker that died."""
    monkeypatch.setattr(inbox, "LEASE", EXPIRED)


def claim(story: Story, limit: int = 100) -> list[int]:
    """The ids that a worker is given next."""
    return [event.id for event in inbox.claim(story.engine, "worker", limit)]


def attempts(story: Story, event_id: int) -> list[Row]:
    """What was tried in vain."""
    return story.books.rows(
        "SELECT attempt, error_class, message FROM event_attempts WHERE event_id = :id ORDER BY attempt", id=event_id
    )


def row(story: Story, event_id: int) -> Row:
    """An event."""
    return story.books.rows("SELECT * FROM events WHERE id = :id", id=event_id)[0]


def test_events_of_an_expired_claim_are_claimed_one_by_one_and_hold_up_nobody(story: Story) -> None:
    """New ones are claimed together meanwhile, and each of them has a claim of its own."""
    suspects = story.accept(report("a"), report("b"), report("c"))
    claim(story)
    story.lose_leases()
    story.books.value("SELECT sweep_events()")
    others = story.accept(report("d"), report("e"))
    claims = [inbox.claim(story.engine, f"worker-{number}", 100) for number in range(5)]

    assert [[event.id for event in events] for events in claims] == [others, *([one] for one in suspects), []]
    assert len({event.claim_token for events in claims for event in events}) == 4
    assert all(event.body for events in claims for event in events)


def test_third_expired_claim_ends_an_event_with_its_reason_and_people_are_told(story: Story) -> None:
    """Its history shows each of them; what was beside it the first time is applied meanwhile."""
    story.open_wallet()
    poison, neighbour = story.accept(report("a poison"), report("neighbour"))
    claimed = []
    while row(story, poison)["state"] != "dead":
        taken = inbox.take(story.engine, "worker", 100)
        claimed.append([event.id for event in taken.events])
        if claimed[-1] == [neighbour]:
            applying.apply(story.engine, taken.events)
        story.lose_leases()
        died = inbox.take(story.engine, "worker", 0).died
    dead = row(story, poison)

    assert (claimed, died) == ([[poison, neighbour], [poison], [neighbour], [poison], [poison]], True)
    assert (dead["attempts"], dead["expired_claims"]) == (4, 3)
    assert dead["reason"] == (
        "WorkerDied: its worker ended or hung while it was being applied, alone, for the third time"
    )
    assert [(tried["attempt"], tried["error_class"]) for tried in attempts(story, poison)] == [
        (number, "WorkerDied") for number in (1, 2, 3, 4)
    ]
    assert [tried["message"].endswith("alone") for tried in attempts(story, poison)] == [False, True, True, True]
    assert row(story, neighbour)["state"] == "done"
    assert note_dead_events(story.engine) == 1
    assert [found["key"] for found in story.books.rows("SELECT key FROM incidents")] == [
        "dead_events:vapi:WorkerDied"
    ]


def test_suspects_with_the_fewest_expired_claims_come_first(story: Story, dying: None) -> None:
    """So that all that is innocent is applied before the culprit kills again."""
    first, second, third = story.accept(report("a"), report("b"), report("c"))
    claim(story)
    order = [claim(story)[0] for _ in range(3)]

    assert order == [first, second, third]


def test_replayed_event_that_died_with_its_workers_is_claimed_alone_and_has_its_chances_again(
    story: Story, dying: None
) -> None:
    """Mended or not, it takes nobody along."""
    [poison] = story.accept(report("poison"))
    for _ in range(3):
        assert claim(story) == [poison]
    story.books.value("SELECT sweep_events()")
    assert row(story, poison)["state"] == "dead"
    story.books.rows("SELECT replay_events(:ids)", ids=[poison])
    story.accept(report("other"))

    assert (row(story, poison)["suspected"], row(story, poison)["expired_claims"]) == (True, 0)
    assert poison not in claim(story)


def test_event_that_was_applied_is_suspected_no_more(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its worker died of, it was another thing."""
    [parked] = story.accept(report("parked", assistant="nobody"))
    claim(story)
    story.lose_leases()
    applying.apply(story.engine, inbox.claim(story.engine, "worker", 100))

    assert [row(story, parked)[name] for name in ("state", "suspected", "expired_claims")] == ["parked", False, 0]


def test_event_that_waited_for_its_retry_is_not_blamed(story: Story) -> None:
    """It did nothing when its worker went; while it is tried again, it does."""
    story.accept(report("a"))
    [event] = inbox.claim(story.engine, "worker", 100)
    inbox.fail(story.engine, Failure(event, TransactionConflict("busy")), dead=False)
    story.lose_leases()
    story.books.value("SELECT sweep_events()")
    waited = row(story, event.id)["suspected"]
    [event] = inbox.claim(story.engine, "worker", 100)
    inbox.fail(story.engine, Failure(event, TransactionConflict("busy")), dead=False)
    inbox.note_applying(story.engine, [event], applying=True)
    story.lose_leases()
    story.books.value("SELECT sweep_events()")

    assert (waited, row(story, event.id)["suspected"]) == (False, True)
    inbox.note_applying(story.engine, [event], applying=False)

    assert row(story, event.id)["state"] == "waiting"


def test_released_events_wait_as_if_nobody_had_claimed_them(story: Story) -> None:
    """What another holds by now, or has ended, is left alone."""
    story.accept(report("a"), report("b"), report("c"))
    events = inbox.claim(story.engine, "worker", 100)
    story.tamper("UPDATE events SET claim_token = gen_random_uuid() WHERE id = :id", id=events[0].id)
    inbox.fail(story.engine, Failure(events[1], TransactionConflict("busy")), dead=True)

    assert inbox.release(story.engine, events) == 1
    kept = [row(story, event.id) for event in events]
    assert [(event["state"], event["attempts"], event["expired_claims"]) for event in kept] == [
        ("active", 0, 0),
        ("dead", 1, 0),
        ("waiting", 0, 0),
    ]


def test_worker_that_is_killed_again_and_again_kills_no_innocent(story: Story, dying: None) -> None:
    """Each life applies some and dies with one more in hand; only a culprit is in hand each time."""
    story.open_wallet()
    ids = story.accept(*(report(f"call-{number}") for number in range(40)))
    claim(story)
    lives = 0
    while "waiting" in story.states().values() or lives == 0:
        lives += 1
        for _ in range(5):
            applying.apply(story.engine, inbox.claim(story.engine, "worker", 100))
        claim(story)
        story.books.value("SELECT sweep_events()")

    assert lives >= 8
    assert {row(story, event_id)["state"] for event_id in ids} == {"done"}
    assert story.books.broken() == []
