"""A worker that is busy keeps its events by renewing its lease; one that is gone loses them."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from threading import Event

import pytest

from billing import applying, inbox
from billing.applying import Applied
from billing.database import transaction
from billing.errors import ClaimLost, TransactionConflict
from billing.inbox import ClaimedEvent, Failure
from billing.process import get_engine
from tasks.inbox import apply_events

from .story import Story, report


@pytest.fixture
def claimed(story: Story) -> list[ClaimedEvent]:
    """Two events of ours whose lease has ended, one of which failed once."""
    story.open_wallet()
    story.accept(report("active"), report("delayed"))
    events = inbox.claim(story.engine, "w", 10)
    inbox.fail(story.engine, Failure(events[1], TransactionConflict("busy")), dead=False)
    story.lose_leases()
    return events


def sweep(story: Story) -> int:
    """How many events went back in line."""
    swept: int = story.books.value("SELECT sweep_events()")
    return swept


def test_extended_lease_keeps_events_from_the_sweep(story: Story, claimed: list[ClaimedEvent]) -> None:
    """Those that are being applied and those that wait for a retry; later they can be ended."""
    inbox.extend_lease(story.engine, claimed)

    assert sweep(story) == 0
    assert applying.apply(story.engine, claimed)["done"] == 2


def test_lease_that_is_not_extended_is_swept(story: Story, claimed: list[ClaimedEvent]) -> None:
    """Then it is too late to extend it, and to end the events."""
    assert sweep(story) == 2
    inbox.extend_lease(story.engine, claimed)

    assert set(story.states().values()) == {"waiting"}
    with pytest.raises(ClaimLost):
        applying.apply(story.engine, claimed)


def test_extending_does_nothing_for_claims_of_others(story: Story, claimed: list[ClaimedEvent]) -> None:
    """Each token keeps its own events, and the answer is how many they are."""
    inbox.extend_lease(story.engine, claimed)
    story.accept(report("other"))
    [other] = inbox.claim(story.engine, "other", 10)
    story.lose_leases()
    held = story.books.value("SELECT extend_lease(:tokens, '1 minute')", tokens=[other.claim_token])

    assert held == 1
    assert sweep(story) == 2
    assert story.event(report("other"))["state"] == "active"


def test_extending_for_nobody_is_no_error(story: Story) -> None:
    """A batch may be empty."""
    inbox.extend_lease(story.engine, [])


def test_extending_does_not_wait_for_what_is_being_ended(story: Story, claimed: list[ClaimedEvent]) -> None:
    """An event that another transaction is just ending needs no longer lease, and must not hold up the others."""
    with transaction(story.engine) as connection:
        applying.apply_within(connection, claimed[1:])
        held = story.books.value("SELECT extend_lease(:tokens, '1 minute')", tokens=[claimed[0].claim_token])

    assert held == 1
    assert sweep(story) == 0


@pytest.fixture
def short_lease(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker's process whose leases last for a third of a second."""
    monkeypatch.setattr(inbox, "LEASE", timedelta(seconds=0.3))
    yield
    get_engine().dispose()


def test_batch_that_takes_longer_than_its_lease_is_not_swept(
    story: Story, short_lease: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweeps while it is being applied, until well after the first lease has ended, find nothing."""
    story.open_wallet()
    story.accept(report("slow"))
    events, sweeps, enough = inbox.claim(story.engine, "w", 10), list[int](), Event()
    first_lease = story.event(report("slow"))["lease_until"]

    def watch() -> None:
        """Sweep until the first lease is long over."""
        while not story.books.value(
            "SELECT now() > CAST(:first AS timestamptz) + interval '0.3 s'", first=first_lease
        ):
            sweeps.append(sweep(story))
            enough.wait(0.02)

    async def scenario() -> Applied:
        with transaction(story.owner.engine) as connection:
            connection.exec_driver_sql("LOCK TABLE routes IN SHARE MODE")  # holds up every batch
            applying = asyncio.create_task(apply_events.fn(events))
            await asyncio.to_thread(watch)
        return await applying

    applied = asyncio.run(scenario())

    assert len(sweeps) > 3
    assert set(sweeps) == {0}
    assert applied.ended["done"] == 1
    assert story.states() == {"slow:end-of-call-report": "done"}


def test_batch_that_hangs_loses_its_lease(story: Story, short_lease: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life come from a thread of their own, so somebody has to end the waiting."""
    monkeypatch.setattr(inbox, "LONGEST_APPLYING", timedelta(0))
    story.open_wallet()
    story.accept(report("hanging"))
    events = inbox.claim(story.engine, "w", 10)

    def until_swept() -> int:
        """Sweep until something goes back in line."""
        while not (swept := sweep(story)):
            pass
        return swept

    async def scenario() -> tuple[int, Applied]:
        with transaction(story.owner.engine) as connection:
            connection.exec_driver_sql("LOCK TABLE routes IN SHARE MODE")
            applying = asyncio.create_task(apply_events.fn(events))
            swept = await asyncio.to_thread(until_swept)
        return swept, await applying

    swept, applied = asyncio.run(scenario())

    assert (swept, dict(applied.ended), applied.failures) == (1, {}, [])
    assert story.states() == {"hanging:end-of-call-report": "waiting"}
