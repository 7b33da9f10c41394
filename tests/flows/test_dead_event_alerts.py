"""Slack is told of dead events by the runs that see them die, once per kind of error and window."""

import json

import pytest

from billing.deliveries import Delivery
from billing.inbox import accept
from billing.settings import get_settings
from calltally.sandbox.faults import text_fault
from flows.process_webhooks import process_webhooks

from .stage import Stage, as_owner, run


def receive_unreadable(stage: Stage, name: str, count: int) -> None:
    """Reports that say nothing of their calls, but hold a customer's number."""
    body = b'{"message": {"type": "end-of-call-report", "customer": {"number": "+14155550123"}}}'
    accept(stage.engine, [Delivery("vapi", f"{name}{n}", "end-of-call-report", body) for n in range(count)])


def later(stage: Stage, minutes: int) -> None:
    """Let the alerts have been opened so much earlier."""
    as_owner(
        stage.engine,
        f"UPDATE alerts SET opened_at = opened_at - interval '{minutes} minutes';"
        f"UPDATE events SET finished_at = finished_at - interval '{minutes} minutes'",
    )


def told(stage: Stage) -> list[str]:
    """The texts of the messages in Slack."""
    return [message["text"] for message in stage.sandbox.slack.messages]


def test_many_dead_events_are_one_message_and_the_next_comes_an_hour_later(stage: Stage) -> None:
    """Those that die in between are counted in it; a run that finds nothing waiting sends it as well."""
    receive_unreadable(stage, "a", 13)
    run(process_webhooks)
    receive_unreadable(stage, "b", 2)
    run(process_webhooks)
    first = told(stage)
    later(stage, 61)
    run(process_webhooks)

    assert first == ["13 vapi events could not be applied: UnreadablePayload"]
    assert told(stage)[1:] == ["2 vapi events could not be applied: UnreadablePayload"]
    assert "and 3 more" in json.dumps(stage.sandbox.slack.messages[0])
    assert "4155550123" not in json.dumps(stage.sandbox.slack.messages)


def test_message_that_slack_refused_is_sent_by_a_later_run(stage: Stage) -> None:
    """The refusal is noted, the run is well, and the alert is not lost."""
    stage.sandbox.slack.faults.add(text_fault(500, "rollup_error"))
    receive_unreadable(stage, "a", 1)
    refused = run(process_webhooks)
    outcome = stage.books.value("SELECT outcome FROM alerts")
    before = told(stage)
    later(stage, 2)
    run(process_webhooks)

    assert refused.state.is_completed()
    assert outcome == "could not alert: Slack answered 500 rollup_error"
    assert before == []
    assert told(stage) == ["1 vapi event could not be applied: UnreadablePayload"]
    assert stage.books.value("SELECT outcome FROM alerts") == "sent"


def test_alert_without_slack_is_noted_and_fails_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no Slack reads the dead events in health and in the list."""
    monkeypatch.delenv("SLACK_WEBHOOK_URL")
    get_settings.cache_clear()
    receive_unreadable(stage, "a", 1)
    ended = run(process_webhooks)

    assert ended.result["dead"] == 1
    assert stage.books.value("SELECT outcome FROM alerts") == "could not alert: SLACK_WEBHOOK_URL is not set"
