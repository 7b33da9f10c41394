"""Webhooks that were accepted and not applied."""

from datetime import timedelta

import pytest

from billing.monitoring import note
from billing.rules.applied_events import RULE
from tests.books import Books

from .looking import NOW, all_clear, looked, receive, written

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
        "applied_events:twilio": None,
        "applied_events:vapi": True,
    }
    assert condition.measured == "30 of 50 events: 60.00 % (95 % interval 46.18 % to 72.39 %)"
    assert len(condition.facts["first_ids"]) == 10
    assert "20 of 50 vapi events since 2026-11-18 06:00 UTC are not applied" in written(condition)
    assert "60.00 % (95 % interval 46.18 % to 72.39 %)" in written(condition)
    assert all_clear(found["applied_events:stripe"]) == (
        "Events of stripe are applied again: 100.00 % of 5 since 2026-11-18 06:00 UTC"
    )


def test_events_that_are_young_old_or_few_among_many_are_no_alarm(books: Books, owner: Books) -> None:
    """They are on their way, known already, or chance."""
    receive(owner, "vapi", 9, timedelta(minutes=4), "waiting")
    receive(owner, "vapi", 9, 7 * HOUR, "parked")
    receive(owner, "vapi", 9, 7 * HOUR, "dead")
    receive(owner, "stripe", 60, HOUR, "skipped")
    receive(owner, "stripe", 1, HOUR, "parked")

    assert not any(condition.failing for condition in looked(books, RULE).values())


@pytest.mark.parametrize("state", ["waiting", "parked"])
def test_events_that_grow_old_unapplied_stay_an_incident_until_they_are_applied(
    books: Books, owner: Books, state: str
) -> None:
    """Neither a quiet day nor many that went well are an all-clear for those that still wait."""
    receive(owner, "vapi", 5, HOUR, state)
    note(books.engine, list(looked(books, RULE).values()))
    alone = looked(books, RULE, NOW + 7 * HOUR)["applied_events:vapi"]
    receive(owner, "vapi", 300, -6 * HOUR)
    beside_others = looked(books, RULE, NOW + 7 * HOUR)["applied_events:vapi"]
    owner.value("WITH ended AS (DELETE FROM events WHERE state = :state RETURNING 1) SELECT 1", state=state)
    receive(owner, "vapi", 5, -7.5 * HOUR)
    mended = looked(books, RULE, NOW + 8 * HOUR)["applied_events:vapi"]
    note(books.engine, [mended])

    assert (alone.failing, beside_others.failing, mended.failing) == (True, True, False)
    assert alone.measured.startswith("0 of 5 events")
    assert books.value("SELECT count(*) FROM incidents WHERE closed_at IS NULL") == 0


def test_stretch_without_events_neither_begins_nor_ends_an_incident(books: Books) -> None:
    """Nothing arrived, so nothing was proved."""
    assert {condition.failing for condition in looked(books, RULE).values()} == {None}
