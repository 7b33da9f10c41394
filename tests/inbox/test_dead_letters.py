"""People are told of dead events once per kind of error and window, how many they are, and never what they say."""

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from billing import inbox
from billing.alerts import OpenAlert, note_alert, open_dead_event_alerts
from billing.database import transaction, value
from billing.deliveries import Delivery
from billing.errors import BillingError, ConstraintBroken, TransactionConflict
from billing.inbox import Failure
from billing.messages import dead_events_message
from calltally.sandbox.slack import refusal

from .story import Story, payment, report, unreadable, work


def die(story: Story, deliveries: Sequence[Delivery], error: BillingError) -> list[int]:
    """Let events die of an error; their ids."""
    ids = story.accept(*deliveries)
    for event in inbox.claim(story.engine, "w", 1000):
        inbox.fail(story.engine, Failure(event, error), dead=True)
    return ids


def reports(name: str, count: int) -> list[Delivery]:
    """Reports of so many calls."""
    return [report(f"{name}-{n}") for n in range(count)]


def opened(story: Story, outcome: str | None = "sent") -> dict[str, int]:
    """The alerts that are due, as numbers of events by key; noted as this, if anything, came of sending them."""
    found = open_dead_event_alerts(story.engine)
    for alert in found:
        if outcome:
            note_alert(story.engine, alert, outcome)
    return {alert.key.removeprefix("dead_events:"): alert.facts["events"] for alert in found}


def pass_time(story: Story, minutes: int) -> None:
    """Let all that happened have happened so much earlier."""
    story.tamper("UPDATE alerts SET opened_at = opened_at - make_interval(mins => :minutes)", minutes=minutes)
    story.tamper("UPDATE events SET finished_at = finished_at - make_interval(mins => :minutes)", minutes=minutes)


def test_dead_events_make_one_alert_per_provider_and_kind_of_error(story: Story) -> None:
    """With their number, their first ids and an example; asking again opens nothing."""
    ids = die(story, reports("a", 12), TransactionConflict("busy"))
    die(story, payment("pi_1", ""), TransactionConflict("busy"))
    die(story, reports("b", 1), ConstraintBroken("too long"))
    found = {alert.key: alert.facts for alert in open_dead_event_alerts(story.engine)}

    assert {key: facts["events"] for key, facts in found.items()} == {
        "dead_events:vapi:TransactionConflict": 12,
        "dead_events:stripe:TransactionConflict": 2,
        "dead_events:vapi:ConstraintBroken": 1,
    }
    assert found["dead_events:vapi:TransactionConflict"] == {
        "provider": "vapi",
        "error": "TransactionConflict",
        "events": 12,
        "first_ids": sorted(ids)[:10],
        "example": "TransactionConflict: busy",
    }
    assert opened(story) == {}


def test_events_dying_within_the_window_are_in_the_next_alert(story: Story) -> None:
    """Not before the window is over, and only those that the last alert did not count."""
    die(story, reports("a", 3), TransactionConflict("busy"))
    first = opened(story)
    die(story, reports("b", 2), TransactionConflict("busy"))
    meanwhile = opened(story)
    pass_time(story, 59)
    die(story, reports("c", 4), TransactionConflict("busy"))
    shortly_before = opened(story)
    pass_time(story, 2)

    assert first == {"vapi:TransactionConflict": 3}
    assert meanwhile == shortly_before == {}
    assert opened(story) == {"vapi:TransactionConflict": 6}
    pass_time(story, 61)
    assert opened(story) == {}


def test_unreadable_events_that_die_in_their_batch_are_counted(story: Story) -> None:
    """Those have no failed attempt of their own before."""
    story.accept(*(unreadable(f"x{n}") for n in range(3)))
    work(story.engine)

    assert opened(story) == {"vapi:UnreadablePayload": 3}


def test_replayed_event_that_dies_again_is_told_again(story: Story) -> None:
    """Its cause was not mended after all."""
    ids = die(story, reports("a", 2), TransactionConflict("busy"))
    first = opened(story)
    pass_time(story, 61)
    story.books.rows("SELECT replay_events(:ids)", ids=ids[:1])
    die(story, [], TransactionConflict("busy"))

    assert (first, opened(story)) == ({"vapi:TransactionConflict": 2}, {"vapi:TransactionConflict": 1})


def test_unsent_alert_is_offered_again_until_it_is_sent(story: Story) -> None:
    """Once its first sender must be gone; `sent` ends it."""
    die(story, reports("a", 2), TransactionConflict("busy"))
    offers = [opened(story, outcome) for outcome in (None, "could not alert", "sent")]
    pass_time(story, 2)
    offers += [opened(story, outcome) for outcome in (None, "could not alert", "sent", "sent")]

    one = {"vapi:TransactionConflict": 2}
    assert offers == [one, {}, {}, one, one, one, {}]
    assert story.books.rows("SELECT outcome FROM alerts") == [{"outcome": "sent"}]


def test_alert_that_could_not_be_sent_for_a_window_is_in_the_next_one(story: Story) -> None:
    """However long Slack is away, no dead event goes untold."""
    die(story, reports("a", 2), TransactionConflict("busy"))
    opened(story, "could not alert")
    pass_time(story, 61)
    die(story, reports("b", 3), TransactionConflict("busy"))
    opened(story, "could not alert")
    pass_time(story, 61)

    assert opened(story) == {"vapi:TransactionConflict": 5}
    pass_time(story, 61)
    assert opened(story) == {}


def test_two_openers_at_once_open_and_offer_one(story: Story) -> None:
    """Several runs end at the same moment, and people are told once."""
    die(story, reports("a", 5), TransactionConflict("busy"))
    barrier = Barrier(4)

    def open_together() -> list[OpenAlert]:
        barrier.wait()
        return open_dead_event_alerts(story.engine)

    with ThreadPoolExecutor(4) as pool:
        offered = [alert for opener in [pool.submit(open_together) for _ in range(4)] for alert in opener.result()]

    assert [alert.facts["events"] for alert in offered] == [5]
    assert story.books.value("SELECT count(*) FROM alerts") == 1


@pytest.mark.parametrize("begun_first", [True, False])
def test_event_dying_while_an_alert_is_opened_is_counted_once(story: Story, begun_first: bool) -> None:
    """Whether its transaction began before the alert's or not, and although it ends later."""
    die(story, reports("a", 2), TransactionConflict("busy"))
    story.accept(report("b"))
    [event] = inbox.claim(story.engine, "w", 1)
    note = "SELECT fail_event(:token, :id, 'TransactionConflict', 'busy', true, '1 minute')"
    first = {}
    with ThreadPoolExecutor(1) as pool:
        with transaction(story.engine) as dying:
            value(dying, "SELECT now()")
            if begun_first:
                first = opened(story)
            value(dying, note, token=event.claim_token, id=event.id)
            opener = pool.submit(opened, story)
            wait_for_lock(story, opener)
        second = opener.result()
    pass_time(story, 61)
    third = opened(story)

    assert sum(told.get("vapi:TransactionConflict", 0) for told in (first, second, third)) == 3
    assert opened(story) == {}


def wait_for_lock(story: Story, opener: Future[Any]) -> None:
    """Until the opener waits for the table, or has ended without."""
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'alerts'::regclass AND NOT granted"
    while not opener.done() and not story.books.value(waiting):
        pass


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "1 vapi event could"), (10, "10 vapi events"), (13, "and 3 more")]
)
def test_message_says_how_many_died_of_what(story: Story, count: int, expected: str) -> None:
    """Slack accepts it; it names the first ids, how many more there are, and the commands to go on with."""
    ids = die(story, reports("a", count), TransactionConflict("busy"))
    [alert] = open_dead_event_alerts(story.engine)
    message = dead_events_message(alert.facts)
    written = json.dumps(message)

    assert refusal(json.dumps(message).encode()) is None
    assert expected in written
    assert ("more" in written) == (count > 10)
    assert f"calltally events show {min(ids)}" in written
    assert "calltally events replay --state dead --error TransactionConflict" in written


def test_message_of_any_error_is_within_the_limits_of_slack(story: Story) -> None:
    """Header 150 characters, section 3,000; and no markup gets through."""
    die(story, reports("a", 20), type("E" * 300, (ConstraintBroken,), {})("<!channel> & " + "x" * 10_000))
    [alert] = open_dead_event_alerts(story.engine)
    message = dead_events_message(alert.facts)

    assert refusal(json.dumps(message).encode()) is None
    assert len(message["blocks"][0]["text"]["text"]) <= 150
    assert "<!channel>" not in json.dumps(message)


def test_message_holds_neither_bodies_nor_phone_numbers(story: Story) -> None:
    """What the event says is personal data, and stays in the inbox."""
    number = {"number": "+14155550123"}
    bodies = [
        {"message": {"type": "end-of-call-report", "call": {"id": "1"}, "customer": number}},
        {"message": {"type": "end-of-call-report", "call": {"id": "2", "createdAt": "+14155550123"}}},
        {"message": {"type": "end-of-call-report", "call": {"id": "3", "type": number}}},
        {"message": {"type": "end-of-call-report", "call": {"id": "4"}, "endedAt": "+14155550123", "cost": number}},
    ]
    story.accept(
        *(
            Delivery("vapi", f"{n}:end-of-call-report", "end-of-call-report", json.dumps(body).encode())
            for n, body in enumerate(bodies)
        )
    )
    work(story.engine)
    [alert] = open_dead_event_alerts(story.engine)
    reasons = [row["reason"] for row in story.books.rows("SELECT reason FROM events")]

    assert alert.facts["events"] == 4
    assert "4155550123" not in json.dumps(dead_events_message(alert.facts)) + json.dumps(reasons)
