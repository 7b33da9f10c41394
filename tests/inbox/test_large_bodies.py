"""A claim is bounded by the bytes of its bodies: however long the calls that wait, a worker has room for them."""

import json
from collections import Counter

import pytest
from sqlalchemy import Connection

from billing import applying, inbox, replay
from billing.deliveries import Delivery, identify_vapi
from billing.errors import TransactionConflict
from billing.inbox import ClaimedEvent
from calltally.sandbox.stripe import StripeWorld

from .story import Story, payment, report, work
from .test_reversals import AT, deliveries, paid

LARGE = 20_000
"""Bytes of a large body; beyond 2 kB Postgres stores it apart from its row, as it does with one of 8 MB."""


def long_call(call_id: str, size: int = LARGE) -> Delivery:
    """The report of a call with a transcript of so many bytes."""
    content = json.loads(report(call_id).body)
    content["message"]["transcript"] = "x" * size
    return identify_vapi(json.dumps(content).encode())


def size(events: list[ClaimedEvent]) -> int:
    """How large their bodies are together."""
    return sum(len(event.body or b"") for event in events)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Room for four large bodies and a bit."""
    monkeypatch.setattr(inbox, "CLAIM_BYTES", 5 * LARGE)
    return inbox.CLAIM_BYTES


def test_claim_of_many_large_bodies_is_cut_by_bytes(story: Story, limit: int) -> None:
    """Oldest first, as many as there is room for, and all of them by and by."""
    ids = story.accept(*(long_call(f"call-{n}") for n in range(10)))
    claims = []
    while claimed := inbox.claim(story.engine, "w", 100):
        claims.append(claimed)

    assert [len(claimed) for claimed in claims] == [4, 4, 2]
    assert all(size(claimed) <= limit for claimed in claims)
    assert [event.id for claimed in claims for event in claimed] == ids


def test_claim_of_everyday_bodies_is_bounded_by_their_number(story: Story) -> None:
    """Two thousand reports of nine kilobytes fit, and leave room for other providers' shares."""
    assert inbox.CLAIM_BYTES > 2000 * 9_000
    story.accept(*(long_call(f"call-{n}", 9_000) for n in range(20)), *payment("pi_1", story.open_wallet()))

    assert len(inbox.claim(story.engine, "w", 12)) == 6 + 2


@pytest.mark.usefixtures("limit")
def test_body_above_the_limit_is_claimed_alone(story: Story) -> None:
    """It is taken when it is the oldest, and nothing of its provider with it."""
    first, huge, last = story.accept(report("first"), long_call("huge", 10 * LARGE), report("last"))

    assert [[event.id for event in inbox.claim(story.engine, "w", 100)] for _ in range(4)] == [
        [first],
        [huge],
        [last],
        [],
    ]


@pytest.mark.usefixtures("limit")
def test_every_provider_gets_its_share_beside_large_bodies(story: Story) -> None:
    """Payments are all taken although each call alone would fill the claim."""
    organization_id = story.open_wallet()
    story.accept(*(long_call(f"call-{n}", 10 * LARGE) for n in range(3)))
    story.accept(*(event for n in range(5) for event in payment(f"pi_{n}", organization_id)))
    claimed = inbox.claim(story.engine, "w", 100)

    assert [event.provider for event in claimed] == ["vapi"] + ["stripe"] * 10


@pytest.mark.usefixtures("limit")
def test_event_without_its_body_is_claimed_and_ended(story: Story) -> None:
    """What is forgotten takes no room, and does not stay in line."""
    story.accept(*(long_call(f"call-{n}") for n in range(2)))
    story.tamper("DELETE FROM event_bodies")
    work(story.engine)

    assert set(story.states().values()) == {"dead"}


@pytest.mark.usefixtures("limit")
def test_backlog_of_long_calls_is_applied_in_the_end(story: Story) -> None:
    """Each call is charged once, whatever the claims were, and what was left behind by one is free for the next."""
    story.open_wallet()
    story.accept(*(long_call(f"call-{n}") for n in range(9)), long_call("huge", 10 * LARGE), report("short"))
    work(story.engine)

    assert set(story.states().values()) == {"done"}
    assert len(story.content()["charges"]) == 11
    assert story.books.broken() == []


def die(story: Story) -> None:
    """Let everything that waits be dead."""
    story.tamper("UPDATE events SET state = 'active', claim_token = gen_random_uuid(), lease_until = now()")
    story.tamper(
        "UPDATE events SET state = 'dead', claim_token = NULL, lease_until = NULL, finished_at = now(),"
        " reason = 'Mended: by now'"
    )


@pytest.fixture
def dead(story: Story) -> list[int]:
    """Dead events of ten long calls, the last of them huge; their ids."""
    story.open_wallet()
    ids = story.accept(*(long_call(f"call-{n}") for n in range(9)), long_call("huge", 10 * LARGE))
    die(story)
    return ids


@pytest.mark.usefixtures("limit")
def test_replay_of_long_calls_is_applied_whole_by_slices(
    story: Story, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan names all transfers and books the same, and never are more bodies in memory than a claim may hold."""
    slices: list[int] = []

    def noting(connection: Connection, events: list[ClaimedEvent]) -> Counter[str]:
        slices.append(len(events))
        return applying.apply_within(connection, events)

    monkeypatch.setattr(replay, "apply_within", noting)
    plan = replay.rehearse(story.engine, dead)
    applied = replay.apply_plan(story.engine, dead, plan.digest)

    assert slices == [4, 4, 1, 1] * 2
    assert applied == plan
    assert len(plan.transfers) == 10
    assert set(story.states().values()) == {"done"}
    assert story.books.broken() == []


@pytest.mark.usefixtures("limit")
def test_plan_that_fails_in_a_later_slice_books_nothing(story: Story, dead: list[int]) -> None:
    """What the slices before it booked is taken back with it."""
    unlucky = story.accept(report("unlucky"))
    before = story.content()

    with pytest.raises(TransactionConflict, match="unlucky"):
        replay.rehearse(story.engine, dead + unlucky)

    assert story.content() == before


@pytest.mark.usefixtures("limit")
def test_refund_replayed_a_slice_before_its_payment_is_booked_all_the_same(story: Story) -> None:
    """What its payment wakes belongs to the plan as well."""
    world, organization_id = StripeWorld(), story.books.organization("Acme")
    payment_events, payment_id = paid(world, organization_id)
    refund = deliveries(world, world.refund(world.topup(payment_id), 2_000, at=AT))
    ids = story.accept(*refund, long_call("huge", 10 * LARGE), *payment_events)
    die(story)
    plan = replay.rehearse(story.engine, ids)
    replay.apply_plan(story.engine, ids, plan.digest)

    assert {story.event(delivery)["state"] for delivery in [*payment_events, refund[0]]} == {"done"}
    assert story.books.balance(organization_id) == 30_000_000
    assert story.books.broken() == []
