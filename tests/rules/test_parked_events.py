"""Events that move money and wait for somebody's decision."""

from datetime import timedelta
from typing import Any

import pytest

from billing.monitoring import note
from billing.rules.parked_events import RULE
from billing.rules.rule import Condition
from billing.unapplied import NEXT_STEPS
from tests.books import Books

from .looking import NOW, all_clear, looked, receive, written
from .test_runbook import SECTIONS

HOUR = timedelta(hours=1)


def park(owner: Books, count: int, ago: timedelta, reason: str, provider: str = "stripe") -> None:
    """Events that arrived so long ago and are parked since."""
    receive(owner, provider, count, ago, "parked")
    owner.rows("UPDATE events SET reason = :reason WHERE reason = 'Reason: why' RETURNING 1", reason=reason)


def noted(books: Books, now: Any = NOW) -> list[Condition]:
    """One look of the watch, as it is noted."""
    found = list(looked(books, RULE, now).values())
    note(books.engine, found)
    return found


def test_two_parked_payments_of_sixty_are_told(books: Books, owner: Books) -> None:
    """Few among many, and older than the hours by which shares are reckoned: the money is missing all the same."""
    receive(owner, "stripe", 58, HOUR)
    park(owner, 1, 7 * HOUR, "unknown_organization:pi_1")
    park(owner, 1, 2 * HOUR, "unknown_organization:pi_2")
    park(owner, 3, 2 * HOUR, "unknown_organization", "vapi")
    found = looked(books, RULE)
    ids = found["parked_events:stripe:unknown_organization"].facts["first_ids"]

    assert {key: (condition.failing, condition.measured) for key, condition in found.items()} == {
        "parked_events:stripe:unknown_organization": (True, "2 events, the oldest for 7 h"),
        "parked_events:vapi:unknown_organization": (True, "3 events, the oldest for 2 h"),
    }
    message = written(found["parked_events:stripe:unknown_organization"])
    assert "2 stripe events are parked, the oldest for 7 h: unknown_organization" in message
    assert f"calltally events dismiss {ids[0]} --reason" in message
    assert "pi_1" not in message


@pytest.mark.parametrize(
    ("ago", "failing", "severity"),
    [
        (HOUR, False, "warning"),
        (HOUR + timedelta(seconds=1), True, "warning"),
        (23 * HOUR, True, "warning"),
        (24 * HOUR, True, "critical"),
    ],
)
def test_event_is_parked_too_long_after_an_hour_and_far_too_long_after_a_day(
    books: Books, owner: Books, ago: timedelta, failing: bool, severity: str
) -> None:
    """A refund ahead of its payment, or a customer who is being added, is none of it."""
    park(owner, 1, ago, "payment_not_credited:pi_1")
    [condition] = looked(books, RULE).values()

    assert (condition.failing, condition.severity) == (failing, severity)


def test_incident_is_told_once_for_all_events_of_a_kind_and_ends_with_the_last(books: Books, owner: Books) -> None:
    """One more payment of a stranger's is no news; nor is it all over while a young one is still there."""
    park(owner, 1, 2 * HOUR, "unknown_organization:pi_1")
    noted(books)
    park(owner, 1, timedelta(minutes=5), "unknown_organization:pi_2")
    noted(books)
    owner.rows("DELETE FROM events WHERE reason = 'unknown_organization:pi_1' RETURNING 1")
    [young] = noted(books)
    told = books.rows("SELECT key, kind FROM alerts")
    owner.rows("DELETE FROM events RETURNING 1")
    [over] = noted(books)
    [after] = noted(books)

    assert told == [{"key": "parked_events:stripe:unknown_organization", "kind": "raised"}]
    assert (young.failing, over.failing) == (True, False)
    assert all_clear(over) == "No stripe event is parked of unknown_organization any more"
    assert books.value("SELECT count(*) FROM incidents WHERE closed_at IS NULL") == 0
    assert (after.key, after.failing, after.measured) == ("parked_events", False, "no event is parked")


def test_events_that_are_not_parked_are_the_concern_of_other_rules(books: Books, owner: Books) -> None:
    """However old they are."""
    for state in ("waiting", "delayed", "dead", "skipped", "done"):
        receive(owner, "stripe", 1, 9 * HOUR, state)

    assert [condition.failing for condition in looked(books, RULE).values()] == [False]


@pytest.mark.parametrize(
    "reason",
    [
        "unknown_organization", "customer_mismatch", "currency_mismatch", "livemode_mismatch", "payment_not_credited",
        "refunds_not_told", "no_price", "connected_account", "cannot_ask_stripe", "unnamed_payment", "unproven_payer",
        "skipped_money",
    ],
)  # fmt: skip
def test_every_reason_for_parking_has_its_next_step(reason: str) -> None:
    """In Slack and in Prefect's table, which share them, and in the runbook."""
    assert reason in NEXT_STEPS
    assert f"`{reason}`" in SECTIONS["parked_events"]
