"""Slack is told of dead events by the runs that see them die, and when they are gone."""

import json

import pytest

from billing.deliveries import Delivery
from billing.inbox import accept
from billing.settings import get_settings
from calltally.sandbox.faults import text_fault
from flows.process_webhooks import process_webhooks
from tasks.inbox import apply_event

from .stage import Stage, as_owner, run


def receive_unreadable(stage: Stage, name: str, count: int) -> None:
    """Reports that say nothing of their calls, but hold a customer's number."""
    body = b'{"message": {"type": "end-of-call-report", "customer": {"number": "+14155550123"}}}'
    accept(stage.engine, [Delivery("vapi", f"{name}{n}", "end-of-call-report", body) for n in range(count)])


def later(stage: Stage, hours: int) -> None:
    """Let the messages have been written and sent so much earlier."""
    ago = f"- interval '{hours} hours'"
    as_owner(
        stage.engine, f"UPDATE alerts SET opened_at = opened_at {ago}, due_at = due_at {ago}, sent_at = sent_at {ago}"
    )


def told(stage: Stage) -> list[str]:
    """The headlines in Slack."""
    return [message["blocks"][0]["text"]["text"] for message in stage.sandbox.slack.messages]


def test_dead_events_are_told_once_reminded_of_and_told_when_they_are_gone(stage: Stage) -> None:
    """By the runs that apply webhooks; a run that finds nothing waiting does it as well."""
    receive_unreadable(stage, "a", 13)
    run(process_webhooks)
    receive_unreadable(stage, "b", 2)
    run(process_webhooks)
    first = told(stage)
    later(stage, 25)
    run(process_webhooks)
    as_owner(stage.engine, "DELETE FROM events")
    run(process_webhooks)

    assert first == [":rotating_light: 13 vapi events could not be applied: UnreadablePayload"]
    assert told(stage)[1:] == [
        ":rotating_light: Still: 15 vapi events could not be applied: UnreadablePayload",
        ":white_check_mark: No vapi event is dead of UnreadablePayload any more",
    ]
    assert "and 3 more" in json.dumps(stage.sandbox.slack.messages[0])
    assert "4155550123" not in json.dumps(stage.sandbox.slack.messages)


@pytest.mark.usefixtures("own_tables")
def test_run_in_which_an_event_dies_of_its_retries_tells_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the sweep, which may be a minute away, or for another death."""
    hasty = apply_event.with_options(retry_delay_seconds=[0.001] * 3)
    monkeypatch.setattr("flows.process_webhooks.apply_event", hasty)
    calls = stage.place_calls(1)
    stage.report(calls)
    stage.fail(calls[0], times=1000)
    ended = run(process_webhooks)

    assert ended.result["retried in vain"] == 1
    assert told(stage) == [":rotating_light: 1 vapi event could not be applied: TransactionConflict"]


@pytest.mark.slow
def test_message_that_slack_refused_is_sent_by_a_later_run(stage: Stage) -> None:
    """The refusal is noted, the run is well, and the message is not lost."""
    stage.sandbox.slack.faults.add(text_fault(404, "no_service"))
    receive_unreadable(stage, "a", 1)
    refused = run(process_webhooks)
    outcome = stage.books.value("SELECT outcome FROM alerts")
    before = told(stage)
    later(stage, 1)
    run(process_webhooks)

    assert refused.state.is_completed()
    assert outcome == "could not alert: Slack answered 404 no_service"
    assert before == []
    assert told(stage) == [":rotating_light: 1 vapi event could not be applied: UnreadablePayload"]
    assert stage.books.value("SELECT outcome FROM alerts") == "sent"


@pytest.mark.slow
def test_alert_without_slack_is_noted_and_fails_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no Slack reads the dead events in health and in the list; nothing piles up."""
    monkeypatch.delenv("SLACK_WEBHOOK_URL")
    get_settings.cache_clear()
    receive_unreadable(stage, "a", 1)
    ended = run(process_webhooks)
    later(stage, 25)
    receive_unreadable(stage, "b", 1)
    run(process_webhooks)

    assert ended.result["dead"] == 1
    assert stage.books.rows("SELECT outcome FROM alerts") == [
        {"outcome": "could not alert: SLACK_WEBHOOK_URL is not set"}
    ]
