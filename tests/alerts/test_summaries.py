"""The summary of the week and the daily heartbeat."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from billing.alert_messages import write_message
from billing.alerts import claim_alerts, note_condition
from billing.settings import Settings
from billing.summaries import enqueue_due, heartbeat_facts, week_facts
from calltally.sandbox.slack import refusal
from calltally.sandbox.wire import encode_json
from tests.books import Books, told_call

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
SLACK = "https://hooks.slack.example/services/T0/B0/x"


def due(engine: Engine, now: datetime, **settings: Any) -> list[str]:
    """What is written when somebody looks at that time; Slack is not set up unless the settings say so."""
    return enqueue_due(engine, Settings(_env_file=None, **settings), now)


def written(engine: Engine) -> str:
    """The next message, which Slack takes, as it is sent."""
    [alert] = claim_alerts(engine)
    message = encode_json(write_message(alert))
    assert refusal(message) is None
    return message.decode()


@pytest.mark.parametrize(
    ("hours", "keys"),
    [(7.9, []), (8, ["weekly_summary:2026-W47"]), (31.9, ["weekly_summary:2026-W47"]), (32, []), (100, [])],
)
def test_week_is_summed_up_on_monday_once(engine: Engine, hours: float, keys: list[str]) -> None:
    """From 08:00 UTC on, for a day; whoever looks then writes it, and nobody else does."""
    now = MONDAY + hours * HOUR

    assert due(engine, now) == keys
    assert due(engine, now + HOUR / 4) == ([] if hours != 7.9 else ["weekly_summary:2026-W47"])


def test_heartbeat_comes_by_itself_and_the_summary_can_be_switched_off(engine: Engine) -> None:
    """Once a day, from 08:00 UTC on."""
    looks = [
        due(engine, MONDAY + hours * HOUR, weekly_summary=False, slack_webhook_url=SLACK)
        for hours in (7, 8, 9, 23, 32)
    ]

    assert looks == [[], ["heartbeat:2026-11-16"], [], [], ["heartbeat:2026-11-17"]]


@pytest.mark.parametrize(
    "settings", [{}, {"slack_webhook_url": SLACK, "daily_heartbeat": False}], ids=["no Slack", "off"]
)
def test_there_is_no_heartbeat_without_a_channel_or_when_it_is_switched_off(
    engine: Engine, settings: dict[str, Any]
) -> None:
    """A message that cannot go anywhere would be reported as not sent every day."""
    assert due(engine, MONDAY + 33 * HOUR, weekly_summary=False, **settings) == []


def test_summary_counts_the_week_and_its_money(engine: Engine, books: Books) -> None:
    """Calls that ended in it, what was billed, owed and paid, how they were heard of, and what went wrong."""
    start = MONDAY - WEEK
    organization_id = books.organization("Acme")
    books.route(organization_id, "a")
    books.credit(organization_id, 1_000_000, "topup:pi_1")
    books.record(*(told_call(f"told-{n}", "a", 60, start + HOUR) for n in range(8)))
    books.record(told_call("lost", "a", 60, start + HOUR), reconciled=True)
    unconnected = {"ended_at": (start + HOUR).isoformat(), "provider_cost_micros": 0}
    books.record(told_call("stray", "b", 60, start + HOUR), told_call("never", "a", None, start + HOUR) | unconnected)
    books.record(told_call("before", "a", 60, start - HOUR), told_call("after", "a", 60, MONDAY))
    note_condition(engine, "wallet_limits", True, {})
    facts = week_facts(engine, start, MONDAY)

    assert facts["week"] == "2026-11-09 to 2026-11-15"
    assert {name: facts[name] for name in ("calls", "ended", "by_webhook", "recovered", "billed")} == {
        "calls": 11,
        "ended": 10,
        "by_webhook": 9,
        "recovered": 1,
        "billed": 10,
    }
    # 9 calls of $0.70: up to the limit of $5.00 beyond what was paid, and the last is owed.
    assert facts["money"] == [
        {"currency": "USD", "charged_micros": 5_600_000, "outstanding_micros": 700_000, "topups_micros": 0}
    ]


def test_summary_reads_well(engine: Engine) -> None:
    """Slack takes it, with every incident of that week."""
    for number in range(12):
        note_condition(engine, f"silence:{number}", True, {})
    now = datetime.now(UTC)
    next_monday = (now - timedelta(days=now.weekday()) + WEEK).replace(hour=8, minute=0)
    with_incidents = week_facts(engine, next_monday - WEEK, next_monday)
    due(engine, next_monday)
    claim_alerts(engine, limit=12)
    text = written(engine)

    assert with_incidents["incidents"] == 12
    assert "0 calls from" in text
    assert "*Webhook reliability*\\nno calls" in text
    assert "and 2 more" in text


def test_heartbeat_says_what_is_wrong_now(engine: Engine) -> None:
    """Or that nothing is."""
    well = heartbeat_facts(engine, datetime.now(UTC))
    note_condition(engine, "broken_books", True, {}, "critical")
    note_condition(engine, "over", True, {})
    note_condition(engine, "over", False, {})
    wrong = heartbeat_facts(engine, datetime.now(UTC) + HOUR)
    tomorrow = (datetime.now(UTC) + 24 * HOUR).replace(hour=9)
    due(engine, tomorrow, slack_webhook_url=SLACK, weekly_summary=False)
    claim_alerts(engine, limit=2)

    assert well["incidents"] == 0
    assert [incident["key"] for incident in wrong["first"]] == ["broken_books"]
    assert "1 incident is open" in written(engine)
