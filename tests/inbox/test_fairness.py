"""A flood of one provider does not starve another, and claiming costs the same however much is finished."""

import re
from typing import Any

import pytest

from billing import inbox
from billing.database import rows, transaction

from .story import Story

WAITING = """
INSERT INTO events (provider, delivery_key, type)
SELECT :provider, :provider || n, 'hang' FROM generate_series(1, :count) AS n
"""
FINISHED = """
INSERT INTO events (provider, delivery_key, type, state, finished_at)
SELECT (ARRAY['vapi', 'stripe'])[1 + n % 2], 'finished' || n, 'hang', 'done', now()
FROM generate_series(1, 50000) AS n
"""


def flood(story: Story, **counts: int) -> None:
    """So many events of each provider wait, in this order."""
    for provider, count in counts.items():
        story.tamper(WAITING, provider=provider, count=count)


def claimed(story: Story, limit: int) -> dict[str, int]:
    """How many events of each provider a claim takes."""
    providers = [event.provider for event in inbox.claim(story.engine, "w", limit)]
    return {provider: providers.count(provider) for provider in dict.fromkeys(providers)}


def test_few_events_behind_a_flood_are_in_the_first_claim(story: Story) -> None:
    """Five payments do not wait for ten thousand calls, and the calls get the rest of their share."""
    flood(story, vapi=10_000, stripe=5)
    first = claimed(story, 100)

    assert first == {"vapi": 50, "stripe": 5}
    assert claimed(story, 100) == {"vapi": 100}


def test_lone_provider_gets_the_whole_limit(story: Story) -> None:
    """Nobody else is there to leave room for."""
    flood(story, stripe=150)

    assert [claimed(story, 100), claimed(story, 100), claimed(story, 100)] == [{"stripe": 100}, {"stripe": 50}, {}]


@pytest.mark.parametrize("limit", [3, 4, 5, 6, 7, 100])
def test_three_providers_have_equal_shares_of_any_limit(story: Story, limit: int) -> None:
    """No two differ by more than one, and the limit is kept exactly, whoever came first."""
    flood(story, twilio=200, vapi=200, stripe=200)
    shares = claimed(story, limit)

    assert sum(shares.values()) == limit
    assert len(shares) == 3
    assert max(shares.values()) - min(shares.values()) <= 1


def test_claim_of_one_takes_the_oldest_of_all(story: Story) -> None:
    """There is nothing to share."""
    flood(story, vapi=2, stripe=1)

    assert [claimed(story, 1) for _ in range(4)] == [{"vapi": 1}, {"vapi": 1}, {"stripe": 1}, {}]


def test_claims_are_oldest_first_within_each_provider(story: Story) -> None:
    """Fairness is between providers; within one it is first come, first served."""
    flood(story, vapi=20, stripe=20)
    taken = [event for _ in range(10) for event in inbox.claim(story.engine, "w", 4)]

    for provider in ("vapi", "stripe"):
        ids = [event.id for event in taken if event.provider == provider]
        assert len(ids) == 20
        assert ids == sorted(ids)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan and everything below it."""
    return [plan, *(node for part in plan.get("Plans", []) for node in nodes(part))]


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("analyzed", [False, True])
def test_claim_beside_many_finished_events_reads_only_the_line(story: Story, mode: str, analyzed: bool) -> None:
    """The line is found through its own index, with statistics or without; no plan reads the whole table."""
    story.tamper(FINISHED)
    flood(story, vapi=300, stripe=5)
    if analyzed:
        story.tamper("ANALYZE events")
    [function] = story.books.rows(
        "SELECT prosrc, proargnames[1 : pronargs] AS names FROM pg_proc WHERE proname = 'claim_events'"
    )
    body = function["prosrc"]
    for place, name in enumerate(function["names"], start=1):
        body = re.sub(rf"\b{name}\b", f"${place}", body)
    with transaction(story.owner.engine) as connection:
        connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
        connection.exec_driver_sql(f"PREPARE claiming (text, integer, interval, uuid, bigint, boolean) AS {body}")
        claim = "claiming ('w', 100, '1 minute', NULL, 1000, NULL)"
        explained = rows(connection, f"EXPLAIN (FORMAT json) EXECUTE {claim}")
        connection.exec_driver_sql("DEALLOCATE claiming")
    plan = explained[0]["QUERY PLAN"]
    read = nodes(plan[0]["Plan"])
    of_events = [node for node in read if node.get("Relation Name") == "events" and "Scan" in node["Node Type"]]

    assert {"events_waiting", "events_suspected"} <= {node.get("Index Name") for node in read}
    assert "Seq Scan" not in {node["Node Type"] for node in of_events}
