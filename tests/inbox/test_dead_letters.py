"""People are told of dead events once per kind of error, again if more die, and when none is left."""

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from billing import inbox
from billing.alert_messages import write_message
from billing.alerts import Alert, claim_alerts, note_dead_events, note_outcome
from billing.database import transaction, value
from billing.deliveries import Delivery
from billing.errors import BillingError, ConstraintBroken, TransactionConflict
from billing.inbox import Failure
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


def due(story: Story, *, sent: bool = True) -> list[Alert]:
    """Look for dead events, and take the messages that are due; send them, or fail to."""
    note_dead_events(story.engine)
    alerts = claim_alerts(story.engine, limit=100)
    for alert in alerts:
        note_outcome(story.engine, alert, "sent" if sent else "could not alert: why", sent=sent)
    return alerts


def told(story: Story, *, sent: bool = True) -> dict[str, tuple[str, int]]:
    """The messages that are due: kind and number of events by key."""
    return {
        alert.key.removeprefix("dead_events:"): (alert.kind, alert.facts["events"]) for alert in due(story, sent=sent)
    }


def pass_time(story: Story, time: timedelta) -> None:
    """Let all that happened have happened so much earlier."""
    story.tamper("UPDATE alerts SET opened_at = opened_at - :time, due_at = due_at - :time", time=time)
    story.tamper("UPDATE alerts SET sent_at = sent_at - :time", time=time)


HOURS_25 = timedelta(hours=25)


def test_dead_events_make_one_message_per_provider_and_kind_of_error(story: Story) -> None:
    """With their number, their first ids and an example; looking again tells nothing."""
    ids = die(story, reports("a", 12), TransactionConflict("busy"))
    die(story, payment("pi_1", ""), TransactionConflict("busy"))
    die(story, reports("b", 1), ConstraintBroken("too long"))
    found = {alert.key: alert.facts for alert in due(story)}

    assert {key: facts["events"] for key, facts in found.items()} == {
        "dead_events:vapi:TransactionConflict": 12,
        "dead_events:stripe:TransactionConflict": 2,
        "dead_events:vapi:ConstraintBroken": 1,
    }
    facts = found["dead_events:vapi:TransactionConflict"]
    assert (facts["provider"], facts["error"], facts["events"]) == ("vapi", "TransactionConflict", 12)
    assert (facts["first_ids"], facts["example"]) == (sorted(ids)[:10], "TransactionConflict: busy")
    assert told(story) == {}


def test_more_deaths_are_told_after_a_day(story: Story) -> None:
    """Not at once, and not at all if there were none."""
    die(story, reports("a", 3), TransactionConflict("busy"))
    messages = [told(story)]
    pass_time(story, HOURS_25)
    messages.append(told(story))
    die(story, reports("b", 2), TransactionConflict("busy"))
    messages.append(told(story))
    messages.append(told(story))
    die(story, reports("c", 1), TransactionConflict("busy"))
    messages.append(told(story))
    pass_time(story, HOURS_25)
    messages.append(told(story))

    assert messages == [
        {"vapi:TransactionConflict": ("raised", 3)},
        {},
        {"vapi:TransactionConflict": ("reminder", 5)},
        {},
        {},
        {"vapi:TransactionConflict": ("reminder", 6)},
    ]


def test_last_dead_event_that_is_replayed_ends_the_alarm(story: Story) -> None:
    """All clear once none of that kind is left; another kind has its own alarm."""
    ids = die(story, reports("a", 2), TransactionConflict("busy"))
    die(story, reports("b", 1), ConstraintBroken("too long"))
    told(story)
    story.books.rows("SELECT replay_events(:ids)", ids=ids[:1])
    first = told(story)
    story.books.rows("SELECT replay_events(:ids)", ids=ids[1:])
    last = told(story)

    assert (first, last) == ({}, {"vapi:TransactionConflict": ("cleared", 0)})
    assert told(story) == {}


def test_replayed_event_that_dies_again_is_told_again(story: Story) -> None:
    """Its cause was not mended after all, and the number of the dead is the same as before."""
    ids = die(story, reports("a", 2), TransactionConflict("busy"))
    first = told(story)
    pass_time(story, HOURS_25)
    story.books.rows("SELECT replay_events(:ids)", ids=ids[:1])
    die(story, [], TransactionConflict("busy"))

    assert (first, told(story)) == (
        {"vapi:TransactionConflict": ("raised", 2)},
        {"vapi:TransactionConflict": ("reminder", 2)},
    )


def test_unreadable_events_that_die_in_their_batch_are_counted(story: Story) -> None:
    """Those have no failed attempt of their own before."""
    story.accept(*(unreadable(f"x{n}") for n in range(3)))
    work(story.engine)

    assert told(story) == {"vapi:UnreadablePayload": ("raised", 3)}


def test_message_that_cannot_be_sent_for_days_stays_one_and_counts_on(story: Story) -> None:
    """However long Slack is away, no dead event goes untold and nothing piles up."""
    messages = []
    for name in "abc":
        die(story, reports(name, 2), TransactionConflict("busy"))
        messages.append(told(story, sent=False))
        pass_time(story, HOURS_25)

    assert messages == [{"vapi:TransactionConflict": ("raised", count)} for count in (2, 4, 6)]
    assert story.books.value("SELECT count(*) FROM alerts") == 1


@pytest.mark.parametrize("begun_first", [True, False])
def test_event_dying_while_somebody_looks_is_told_all_the_same(story: Story, begun_first: bool) -> None:
    """Whether its transaction began before the look or not, and although it ends later."""
    die(story, reports("a", 2), TransactionConflict("busy"))
    story.accept(report("b"))
    [event] = inbox.claim(story.engine, "w", 1)
    note = "SELECT fail_event(:token, :id, 'TransactionConflict', 'busy', true, '1 minute')"
    with ThreadPoolExecutor(1) as pool:
        with transaction(story.engine) as dying:
            value(dying, "SELECT now()")
            first = told(story) if begun_first else {}
            value(dying, note, token=event.claim_token, id=event.id)
            looking = pool.submit(told, story)
            wait_for_lock(story, looking)
        second = looking.result()
    pass_time(story, HOURS_25)
    third = told(story)

    key = "vapi:TransactionConflict"
    if begun_first:
        assert (first, second, third) == ({key: ("raised", 2)}, {}, {key: ("reminder", 3)})
    else:
        assert (second, third) == ({key: ("raised", 3)}, {})


def wait_for_lock(story: Story, looking: Future[Any]) -> None:
    """Until the look waits for the table, or has ended without."""
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'alerts'::regclass AND NOT granted"
    while not looking.done() and not story.books.value(waiting):
        pass


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "1 vapi event could"), (10, "10 vapi events"), (13, "and 3 more")]
)
def test_message_says_how_many_died_of_what(story: Story, count: int, expected: str) -> None:
    """Slack accepts it; it names the first ids, how many more there are, what to do next, and the runbook."""
    ids = die(story, reports("a", count), TransactionConflict("busy"))
    [alert] = due(story)
    written = json.dumps(write_message(alert))

    assert refusal(written.encode()) is None
    assert expected in written
    assert ("more" in written) == (count > 10)
    assert f"calltally events show {min(ids)}" in written
    assert "calltally events replay --state dead --error TransactionConflict" in written
    assert "docs/runbook.md, section `dead_events`" in written


def test_message_of_any_error_is_within_the_limits_of_slack(story: Story) -> None:
    """Header 150 characters, section 3,000; and no markup gets through."""
    die(story, reports("a", 20), type("E" * 300, (ConstraintBroken,), {})("<!channel> & " + "x" * 10_000))
    [alert] = due(story)
    message = write_message(alert)

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
    [alert] = due(story)
    reasons = [row["reason"] for row in story.books.rows("SELECT reason FROM events")]

    assert alert.facts["events"] == 4
    assert "4155550123" not in json.dumps([write_message(alert), dict(alert.facts), reasons])
