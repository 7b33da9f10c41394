"""What ended long ago is forgotten, bodies first; what still needs somebody never is, and nothing is booked anew."""

import pytest

from billing import applying, inbox
from billing.deliveries import Delivery
from billing.errors import InvalidAmount, TransactionConflict
from billing.inbox import Failure
from billing.replay import Selection, select_events

from .story import Story, payment, report, status_update, unreadable, work

STEP = "SELECT * FROM prune_events(make_interval(days => 30), make_interval(days => 400), :limit)"


def prune(story: Story) -> tuple[int, int]:
    """Bodies after 30 days, rows after 400; what lies in months is told of elsewhere."""
    pruned = inbox.prune(story.engine, 30, 400)
    assert pruned.months == 0
    return pruned.bodies, pruned.events


@pytest.fixture
def told(story: Story) -> list[Delivery]:
    """A call and a payment that are booked, and a message that is skipped."""
    organization_id = story.open_wallet()
    deliveries = [report("call-1"), *payment("pi_1", organization_id), status_update("call-1")]
    story.accept(*deliveries)
    work(story.engine)
    return deliveries


@pytest.mark.parametrize(("days", "bodies", "rows"), [(29, 0, 0), (31, 4, 0), (399, 4, 0), (401, 4, 4)])
def test_finished_events_lose_their_bodies_first_and_their_rows_later(
    story: Story, told: list[Delivery], days: int, bodies: int, rows: int
) -> None:
    """Each after its own number of days; the books do not notice."""
    before = story.content()
    story.age(days)

    assert prune(story) == (bodies, rows)
    assert prune(story) == (0, 0)
    assert story.bodies() == 4 - bodies
    assert len(story.states()) == 4 - rows
    assert {**story.content(), "events": []} == {**before, "events": []}
    assert story.books.broken() == []


def test_unfinished_parked_and_dead_events_are_kept_for_ever(story: Story) -> None:
    """They may still have to be applied, so their bodies stay, however old they are."""
    story.accept(payment("pi_nobody", "")[0], unreadable("dead"))
    work(story.engine)
    story.accept(report("active"), report("delayed"))
    active, delayed = inbox.claim(story.engine, "w", 10)
    inbox.fail(story.engine, Failure(delayed, TransactionConflict("busy")), dead=False)
    story.accept(report("waiting"))
    story.age(10_000)

    assert active.attempts == 0
    assert prune(story) == (0, 0)
    assert set(story.states().values()) == {"parked", "dead", "active", "delayed", "waiting"}
    assert story.bodies() == 5


def test_pruning_goes_in_limited_steps(story: Story, told: list[Delivery]) -> None:
    """Each transaction takes no more than its limit of either, and together they take everything."""
    story.age(401)
    steps = [story.books.rows(STEP, limit=3)[0] for _ in range(3)]

    assert [(step["bodies"], step["events_removed"]) for step in steps] == [(3, 3), (1, 1), (0, 0)]
    assert story.states() == {}


def test_pruned_event_takes_its_failed_attempts_with_it(story: Story) -> None:
    """They would be about nothing."""
    story.open_wallet()
    story.accept(report("call-1"))
    claimed = inbox.claim(story.engine, "w", 1)[0]
    inbox.fail(story.engine, Failure(claimed, TransactionConflict("busy")), dead=False)
    applying.apply(story.engine, [claimed])
    story.age(401)

    assert prune(story) == (1, 1)
    assert story.books.rows("SELECT FROM event_attempts") == []


def test_redelivery_after_body_was_pruned_is_a_repetition(story: Story, told: list[Delivery]) -> None:
    """It counts up, wakes nothing and books nothing; its body stays forgotten."""
    story.age(31)
    prune(story)
    before = story.content()
    story.accept(*told)
    work(story.engine)

    assert [story.event(delivery)["deliveries"] for delivery in told] == [2] * 4
    assert story.bodies() == 0
    assert story.content() == before


def test_redelivery_after_row_was_pruned_books_nothing_twice(story: Story, told: list[Delivery]) -> None:
    """It is a new event that finds its call charged and its payment credited."""
    before = story.content()
    story.age(401)
    prune(story)
    story.accept(*told)
    work(story.engine)

    assert story.content() == before
    assert story.books.broken() == []


def test_event_whose_body_was_pruned_is_not_chosen_for_replay(story: Story, told: list[Delivery]) -> None:
    """There is nothing left to apply."""
    ids = select_events(story.engine, Selection(state="done"))
    story.age(31)
    prune(story)

    assert len(ids) == 3
    assert select_events(story.engine, Selection(ids=ids)) == []
    assert select_events(story.engine, Selection()) == []


@pytest.mark.parametrize(
    ("body_age", "row_age"),
    [
        ("23:59:59", "400 days"),
        ("30 days", "23:59:59"),
        ("0", "400 days"),
        ("-1 day", "400 days"),
        ("30 days", "-1 month"),
        (None, "400 days"),
        ("30 days", None),
    ],
)
def test_nothing_younger_than_a_day_is_forgotten(
    story: Story, told: list[Delivery], body_age: str | None, row_age: str | None
) -> None:
    """Whoever may call the function, and with whatever: bodies and rows of a day stay."""
    before = story.content()

    with pytest.raises(InvalidAmount, match="kept for a day at least"):
        story.books.rows(
            "SELECT * FROM prune_events(CAST(:body AS interval), CAST(:row AS interval))", body=body_age, row=row_age
        )

    assert story.content() == before
    assert story.books.rows("SELECT * FROM prune_events('1 day', '24 hours')") == [
        {"months": 0, "bodies": 0, "events_removed": 0}
    ]
