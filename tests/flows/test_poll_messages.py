"""The flow that asks Twilio for what no callback told, on a real server and Twilio's imitation."""

from datetime import UTC, datetime

import pytest

from billing.errors import ProviderRefused
from billing.process import NotConfigured
from billing.settings import get_settings
from calltally.sandbox.faults import json_fault
from calltally.sandbox.twilio import TextMessage, TwilioWorld
from flows.poll_messages import poll_messages
from flows.process_webhooks import process_webhooks
from tests.messages import message, price, route

from .stage import Stage, as_owner, run, task_runs

SERVICE = "MG" + "5" * 32
OLDER = "UPDATE sms_messages SET status_at = status_at - interval '13 hours', polled_at = NULL"


@pytest.fixture
def twilio(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> TwilioWorld:
    """An account whose messages cost Acme two cents a segment."""
    for name, setting in stage.sandbox.twilio_environment("https://billing.example.com").items():
        monkeypatch.setenv(name, setting)
    get_settings.cache_clear()
    price(stage.books, stage.organization_id, 20_000)
    route(stage.books, stage.organization_id, "messaging_service", SERVICE)
    return stage.sandbox.twilio


def send(twilio: TwilioWorld, **facts: object) -> TextMessage:
    """A message of Acme's."""
    return twilio.send_message(at=datetime.now(UTC), messaging_service_sid=SERVICE, **facts)  # type: ignore[arg-type]


def tell(stage: Stage, *messages: TextMessage) -> None:
    """Their callbacks are applied."""
    stage.receive("twilio", stage.sandbox.twilio.callbacks(messages))
    run(process_webhooks)


def test_messages_are_measured_charged_once_and_settled(stage: Stage, twilio: TwilioWorld) -> None:
    """Segments and price come from the Message resource, and a lost callback from there as well."""
    long = send(twilio, num_segments=3)
    failed = send(twilio, outcome="failed", error_code=30003)
    lost = send(twilio, outcome="undelivered", error_code=30008)
    twilio.hold(lost.sid, "sent")
    tell(stage, long, failed, twilio.hold(lost.sid, "sent"))
    twilio.hold(lost.sid, "undelivered")
    polled = run(poll_messages)
    again = run(poll_messages)

    assert (polled.name, polled.result) == ("ask Twilio about 2 messages", {"settled": 2})
    assert (again.name, again.result) == ("ask Twilio about 0 messages", {})
    assert stage.states() == {"done": 4}
    charges = {row["idempotency_key"]: row["amount_micros"] for row in stage.books.charges(stage.organization_id)}
    assert charges == {f"sms:{long.sid}": 60_000, f"sms:{lost.sid}": 20_000}
    assert message(stage.books, lost.sid)["error_code"] == 30008
    assert message(stage.books, long.sid)["provider_price_micros"] == 7500
    assert stage.books.broken() == []


def test_message_that_comes_to_no_end_is_asked_for_after_twelve_hours(stage: Stage, twilio: TwilioWorld) -> None:
    """And one that Twilio has deleted is asked for no more."""
    slow, deleted = send(twilio), send(twilio)
    tell(stage, twilio.hold(slow.sid, "sent"), twilio.hold(deleted.sid, "sent"))
    run(poll_messages)
    as_owner(stage.engine, OLDER)
    twilio.hold(slow.sid, "delivered")
    twilio.delete_message(deleted.sid)
    polled = run(poll_messages)
    as_owner(stage.engine, "UPDATE sms_messages SET polled_at = NULL")

    assert polled.result == {"settled": 1, "gone": 1}
    assert message(stage.books, slow.sid)["status"] == "delivered"
    assert message(stage.books, deleted.sid)["gone_at"] is not None
    assert run(poll_messages).name == "ask Twilio about 0 messages"


@pytest.mark.slow
def test_rate_limit_and_outage_are_waited_for(stage: Stage, twilio: TwilioWorld) -> None:
    """Prefect asks again after 2 and 4 seconds."""
    sent = send(twilio)
    tell(stage, sent)
    twilio.faults.add(json_fault(429, {"code": 20429, "status": 429}))
    twilio.faults.add(json_fault(503, {"code": 20503, "status": 503}))
    polled = run(poll_messages)

    assert polled.result == {"settled": 1}
    asked = [task_run for task_run in task_runs(polled.id, 3) if task_run.name == "ask Twilio about 1 messages"]
    assert [task_run.run_count for task_run in asked] == [3]


def test_refused_token_fails_the_run_and_says_what_to_set(
    stage: Stage, twilio: TwilioWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: asking again would not help. The same without a token at all."""
    tell(stage, send(twilio))
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "another")
    get_settings.cache_clear()
    refused = run(poll_messages)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "")
    get_settings.cache_clear()
    missing = run(poll_messages)

    assert isinstance(refused.result, ProviderRefused)
    assert "TWILIO_AUTH_TOKEN" in str(refused.result)
    assert isinstance(missing.result, NotConfigured)
    assert len(twilio.faults.requests) == 1


def test_answer_that_is_no_message_is_left_for_a_later_run(stage: Stage, twilio: TwilioWorld) -> None:
    """It holds up no other."""
    first, second = send(twilio), send(twilio)
    tell(stage, first, second)
    twilio.faults.add(json_fault(200, {"hello": "world"}))
    polled = run(poll_messages)

    assert polled.result == {"settled": 1, "unreadable": 1}
