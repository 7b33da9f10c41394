"""A replay shows what it would do, does exactly that or nothing, and books nothing twice."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from billing.errors import TransactionConflict
from billing.replay import Plan, PlanChanged, Selection, apply_plan, rehearse, replay, select_events

from .story import Story, payment, report, status_update, unreadable, work

NOBODY = "00000000-0000-0000-0000-000000000007"


@pytest.fixture
def ended(story: Story) -> dict[str, int]:
    """One event of each end, one that waits and one whose body is forgotten; their ids."""
    story.open_wallet()
    done, parked = report("done"), payment("pi_nobody", NOBODY)[0]
    forgotten, skipped, dead, unlucky = (
        report("forgotten"),
        status_update("skipped"),
        unreadable("dead"),
        report("unlucky"),
    )
    names = ["done", "parked", "forgotten", "skipped", "dead", "unlucky", "waiting"]
    ids = story.accept(done, parked, forgotten, skipped, dead, unlucky)
    work(story.engine)
    story.tamper("DELETE FROM event_bodies WHERE event_id = :id", id=ids[2])
    story.tamper("UPDATE events SET received_at = received_at - interval '10 days' WHERE id = :id", id=ids[5])
    story.tamper(
        "UPDATE event_bodies SET received_at = received_at - interval '10 days' WHERE event_id = :id", id=ids[5]
    )
    ids += story.accept(report("waiting"))
    return dict(zip(names, ids, strict=True))


A_WEEK_AGO = datetime.now(UTC) - timedelta(days=7)


@pytest.mark.parametrize(
    ("criteria", "names"),
    [
        ({}, {"done", "parked", "skipped", "dead", "unlucky"}),
        ({"state": "dead"}, {"dead", "unlucky"}),
        ({"state": "done"}, {"done"}),
        ({"state": "waiting"}, set()),
        ({"type": "status-update"}, {"skipped"}),
        ({"provider": "stripe"}, {"parked"}),
        ({"error": "TRANSACTIONCONFLICT"}, {"unlucky"}),
        ({"error": "this call is unlucky"}, {"unlucky"}),
        ({"error": "100%"}, set()),
        ({"error": "_"}, {"parked"}),
        ({"since": A_WEEK_AGO}, {"done", "parked", "skipped", "dead"}),
        ({"until": A_WEEK_AGO}, {"unlucky"}),
        ({"since": A_WEEK_AGO, "until": A_WEEK_AGO}, set()),
        ({"state": "dead", "since": A_WEEK_AGO}, {"dead"}),
        ({"state": "dead", "provider": "vapi", "type": "end-of-call-report", "error": "unreadable"}, {"dead"}),
        ({"state": "dead", "provider": "stripe"}, set()),
        ({"ids": []}, set()),
    ],
)
def test_selection_by_criteria_chooses_what_fits_all(
    story: Story, ended: dict[str, int], criteria: dict[str, Any], names: set[str]
) -> None:
    """Only what has ended and still has its body; text is taken literally and in any case."""
    chosen = select_events(story.engine, Selection(**criteria))

    assert chosen == sorted(ended[name] for name in names)


def test_selection_by_id_chooses_only_what_can_be_replayed(story: Story, ended: dict[str, int]) -> None:
    """What waits anyway, is forgotten or does not exist is left out; other criteria still count."""
    ids = [*ended.values(), 999_999_999]

    assert select_events(story.engine, Selection(ids=ids)) == sorted(
        ended[name] for name in ("done", "parked", "skipped", "dead", "unlucky")
    )
    assert select_events(story.engine, Selection(ids=[ended["done"], ended["dead"]], state="dead")) == [ended["dead"]]


def test_replay_of_everything_books_nothing_twice(story: Story, ended: dict[str, int]) -> None:
    """Done events are done again, and their money has moved once."""
    work(story.engine)
    before = story.content()
    woken = replay(story.engine, list(ended.values()))
    work(story.engine)

    assert len(woken) == 6
    assert story.content() == before
    assert story.books.broken() == []


@pytest.fixture
def unpaid(story: Story) -> tuple[UUID, list[int]]:
    """A wallet with a dollar and its limit, and dead events of three calls of a minute and of a payment."""
    organization_id = story.open_wallet(micros=1_000_000, debt_limit_micros=2_000_000)
    ids = story.accept(*(report(f"call-{n}") for n in range(3)), payment("pi_1", organization_id)[0])
    story.tamper("UPDATE events SET state = 'active', claim_token = gen_random_uuid(), lease_until = now()")
    story.tamper(
        "UPDATE events SET state = 'dead', claim_token = NULL, lease_until = NULL, finished_at = now(),"
        " reason = 'Mended: by now'"
    )
    return organization_id, ids


def whole(story: Story) -> list[object]:
    """Every row that a replay could touch."""
    tables = ("events", "event_attempts", "transfers", "charges", "calls", "wallets")
    return [story.owner.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def test_rehearsal_changes_nothing(story: Story, unpaid: tuple[UUID, list[int]]) -> None:
    """It shows outcomes and transfers, and every row is as it was; once more it shows the same."""
    before = whole(story)
    plan = rehearse(story.engine, unpaid[1])

    assert [outcome["state"] for outcome in plan.outcomes] == ["done"] * 4
    assert [(row["idempotency_key"], row["organization"], row["amount_micros"]) for row in plan.transfers] == [
        *((f"call:call-{n}", "Acme", -700_000) for n in range(3)),
        ("topup:pi_1", "Acme", 50_000_000),
    ]
    assert whole(story) == before
    assert rehearse(story.engine, unpaid[1]).digest == plan.digest


def test_plan_as_shown_books_exactly_the_shown_transfers(story: Story, unpaid: tuple[UUID, list[int]]) -> None:
    """The transfers since are those of the rehearsal, by key, kind and amount."""
    known = {row["id"] for row in story.books.transfers(unpaid[0])}
    plan = rehearse(story.engine, unpaid[1])
    applied = apply_plan(story.engine, unpaid[1], plan.digest)
    booked = [row for row in story.books.transfers(unpaid[0]) if row["id"] not in known]

    assert applied == plan
    assert sorted(
        (row["idempotency_key"], row["kind"], row["amount_micros"] * (1 if row["kind"] == "topup" else -1))
        for row in booked
    ) == [(row["idempotency_key"], row["kind"], row["amount_micros"]) for row in plan.transfers]
    assert set(story.states().values()) == {"done"}
    assert story.books.broken() == []


def price_changes(story: Story, organization_id: UUID) -> None:
    """A minute costs less, since ever."""
    story.books.price(organization_id, 600_000)


def payment_is_credited(story: Story, organization_id: UUID) -> None:
    """The payment's other event comes and is applied."""
    story.accept(payment("pi_1", organization_id)[1])
    work(story.engine)


def call_is_applied(story: Story, organization_id: UUID) -> None:
    """Somebody else replays one of the calls."""
    replay(story.engine, [story.event(report("call-1"))["id"]])
    work(story.engine)


def event_is_claimed(story: Story, organization_id: UUID) -> None:
    """A worker holds one of the events."""
    event_id = story.event(report("call-1"))["id"]
    replay(story.engine, [event_id])
    story.books.rows("SELECT * FROM claim_events('w', 1, '1 minute')")


def organization_is_renamed(story: Story, organization_id: UUID) -> None:
    """The plan that was shown names another organization."""
    story.tamper("UPDATE organizations SET name = 'Bolt' WHERE id = :id", id=organization_id)


@pytest.mark.parametrize(
    "change", [price_changes, payment_is_credited, call_is_applied, event_is_claimed, organization_is_renamed]
)
def test_plan_after_the_world_moved_is_refused_whole(
    story: Story, unpaid: tuple[UUID, list[int]], change: Callable[[Story, UUID], None]
) -> None:
    """It comes to something else than what was shown, so nothing at all is booked."""
    plan = rehearse(story.engine, unpaid[1])
    change(story, unpaid[0])
    before = whole(story)

    with pytest.raises(PlanChanged, match=plan.digest):
        apply_plan(story.engine, unpaid[1], plan.digest)

    assert whole(story) == before
    assert story.books.broken() == []


def test_plan_after_the_wallet_reached_its_limit_is_refused(story: Story, unpaid: tuple[UUID, list[int]]) -> None:
    """Calls that fitted when they were shown would be outstanding now."""
    calls = unpaid[1][:3]
    plan = rehearse(story.engine, calls)
    story.books.deduct(unpaid[0], "expensive", 2_500_000)
    before = whole(story)

    with pytest.raises(PlanChanged):
        apply_plan(story.engine, calls, plan.digest)

    assert len(plan.transfers) == 3
    assert len(rehearse(story.engine, calls).transfers) == 0
    assert whole(story) == before


def test_rehearsal_of_event_that_fails_says_why_and_changes_nothing(story: Story, ended: dict[str, int]) -> None:
    """There is no plan for what cannot be applied."""
    before = whole(story)

    with pytest.raises(TransactionConflict, match="unlucky"):
        rehearse(story.engine, [ended["unlucky"], ended["done"]])

    assert whole(story) == before


def test_rehearsal_of_unreadable_event_shows_that_it_dies_again(story: Story, ended: dict[str, int]) -> None:
    """Its outcome is dead, with the reason, and no transfer."""
    plan = rehearse(story.engine, [ended["dead"]])

    assert [outcome["state"] for outcome in plan.outcomes] == ["dead"]
    assert plan.transfers == []


@pytest.mark.parametrize("change", [{"state": "parked"}, {"reason": "no_price"}, {"id": 2}])
def test_plans_that_differ_only_in_how_events_end_are_different_plans(change: dict[str, Any]) -> None:
    """Who was shown one must not apply the other, though both move the same money."""
    outcome = {"id": 1, "state": "done", "reason": None}
    transfer = {"idempotency_key": "call:1", "kind": "call", "organization": "Acme", "amount_micros": -1}

    assert Plan([outcome], [transfer]).digest == Plan([dict(outcome)], [dict(transfer)]).digest
    assert Plan([outcome], [transfer]).digest != Plan([outcome | change], [transfer]).digest
    assert Plan([outcome], [transfer]).digest != Plan([outcome], [transfer | {"amount_micros": -2}]).digest


def test_plan_of_nothing_is_empty(story: Story) -> None:
    """Choosing no event is no error."""
    assert rehearse(story.engine, []).transfers == []
