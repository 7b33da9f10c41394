"""Webhooks that were accepted and not applied."""

from datetime import timedelta

import pytest

from billing.rules.applied_events import RULE
from tests.books import Books

from .looking import all_clear, looked, receive, written

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("state", ["waiting", "parked", "dead"])
def test_events_that_are_not_applied_are_found_per_provider(books: Books, owner: Books, state: str) -> None:
    """Whatever keeps them; those of the other provider are fine."""
    receive(owner, "vapi", 30, HOUR)
    receive(owner, "vapi", 20, HOUR, state)
    receive(owner, "stripe", 5, HOUR)
    found = looked(books, RULE)
    condition = found["applied_events:vapi"]

    assert {key: condition.failing for key, condition in found.items()} == {
        "applied_events:stripe": False,
        "applied_events:twilio": False,
        "applied_events:vapi": True,
    }
    assert (condition.measured, len(condition.facts["first_ids"])) == ("30 of 50 events", 10)
    assert "20 of 50 vapi events of the last 6 hours are not applied" in written(condition)
    assert "60.00 % (95 % interval 46.18 % to 72.39 %)" in written(condition)
    assert all_clear(found["applied_events:stripe"]) == "Events of stripe are applied again: 100.00 % of 5"


def test_events_that_are_young_old_or_few_among_many_are_no_alarm(books: Books, owner: Books) -> None:
    """They are on their way, known already, or chance."""
    receive(owner, "vapi", 9, timedelta(minutes=4), "waiting")
    receive(owner, "vapi", 9, 7 * HOUR, "parked")
    receive(owner, "vapi", 9, 7 * HOUR, "dead")
    receive(owner, "stripe", 60, HOUR, "skipped")
    receive(owner, "stripe", 1, HOUR, "parked")

    assert not any(condition.failing for condition in looked(books, RULE).values())
