"""The flow that asks Twilio for what no callback told, on a real server and Twilio's imitation."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.errors import ProviderRefused, ProviderUnavailable
from billing.process import NotConfigured
from billing.settings import get_settings
from billing.twilio_api import list_path
from calltally.sandbox.faults import html_fault, json_fault
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
    polled = run(poll_messages, list_days=0)
    again = run(poll_messages, list_days=0)

    assert (polled.name, polled.result) == ("ask Twilio about 2 messages", {"settled": 2})
    assert (again.name, again.result) == ("ask Twilio about 0 messages", {})
    assert stage.states() == {"done": 4}
    charges = {row["idempotency_key"]: row["amount_micros"] for row in stage.books.charges(stage.organization_id)}
    assert charges == {f"sms:{long.sid}": 60_000, f"sms:{lost.sid}": 20_000}
    assert message(stage.books, lost.sid)["error_code"] == 30008
    assert message(stage.books, long.sid)["provider_price_micros"] == 7500
    assert stage.books.broken() == []


@pytest.mark.slow
def test_messages_whose_callbacks_were_all_lost_are_found_in_the_list_and_charged_once(
    stage: Stage, twilio: TwilioWorld
) -> None:
    """Day by day, as far back as asked for; a list read again tells nothing new, and incoming days stay untouched."""
    now = datetime.now(UTC)
    sent = [twilio.send_message(at=now - timedelta(days=days), messaging_service_sid=SERVICE) for days in range(4)]
    polled = run(poll_messages, list_days=3)
    again = run(poll_messages, list_days=3)
    further = run(poll_messages, list_days=4)

    assert (polled.name, polled.result) == ("ask Twilio about 0 messages", {"settled": 3})
    assert again.result == {}
    assert further.result == {"settled": 1}
    charges = {row["idempotency_key"]: row["amount_micros"] for row in stage.books.charges(stage.organization_id)}
    assert charges == {f"sms:{one.sid}": 20_000 for one in sent}
    assert stage.books.broken() == []


def test_older_messages_take_the_room_below_the_limit_first(stage: Stage, twilio: TwilioWorld) -> None:
    """Those of yesterday are charged before those of today."""
    tight, service = stage.books.organization("Tight", debt_limit_micros=30_000), "MG" + "7" * 32
    price(stage.books, tight, 20_000)
    route(stage.books, tight, "messaging_service", service)
    now = datetime.now(UTC)
    young, old = (
        twilio.send_message(at=now - timedelta(days=days), messaging_service_sid=service) for days in (0, 1)
    )
    run(poll_messages, list_days=2)

    assert stage.books.states(tight) == {f"sms:{old.sid}": "settled", f"sms:{young.sid}": "outstanding"}


@pytest.mark.slow
def test_message_that_comes_to_no_end_is_asked_for_after_twelve_hours(stage: Stage, twilio: TwilioWorld) -> None:
    """And one that Twilio has deleted is asked for no more after a day."""
    slow, deleted = send(twilio), send(twilio)
    tell(stage, twilio.hold(slow.sid, "sent"), twilio.hold(deleted.sid, "sent"))
    run(poll_messages, list_days=0)
    as_owner(stage.engine, OLDER)
    twilio.hold(slow.sid, "delivered")
    twilio.delete_message(deleted.sid)
    polled = run(poll_messages, list_days=0)
    as_owner(stage.engine, "UPDATE sms_messages SET polled_at = NULL, missing_since = missing_since - interval '2 d'")
    again = run(poll_messages, list_days=0)

    assert polled.result == {"settled": 1, "gone": 1}
    assert message(stage.books, slow.sid)["status"] == "delivered"
    assert again.result == {"gone": 1}
    assert message(stage.books, deleted.sid)["gone_at"] is not None


@pytest.mark.slow
def test_one_refused_message_holds_up_no_other(stage: Stage, twilio: TwilioWorld) -> None:
    """It is asked for again later; only when Twilio tells of none does the run fail, and says what to look at."""
    first, second = send(twilio), send(twilio)
    tell(stage, first, second)
    twilio.faults.add(json_fault(400, {"code": 20001, "status": 400}))
    polled = run(poll_messages, list_days=0)
    as_owner(stage.engine, "UPDATE sms_messages SET polled_at = NULL")
    twilio.faults.add(html_fault(404))
    refused = run(poll_messages, list_days=0)

    assert polled.result == {"settled": 1, "refused": 1}
    assert isinstance(refused.result, ProviderRefused)
    assert "TWILIO_BASE_URL" in str(refused.result)
    assert stage.books.value("SELECT count(*) FROM sms_messages WHERE missing_since IS NOT NULL") == 0


def test_twilio_that_knows_none_of_many_fails_the_run(stage: Stage, twilio: TwilioWorld) -> None:
    """Its address is of another region: none is given up, and the message says what to look at."""
    sent = [send(twilio) for _ in range(5)]
    tell(stage, *sent)
    for one in sent:
        twilio.delete_message(one.sid)
    polled = run(poll_messages, list_days=0)

    assert isinstance(polled.result, ProviderRefused)
    assert "knows none of 5 messages" in str(polled.result)
    assert stage.books.value("SELECT count(*) FROM sms_messages WHERE gone_at IS NOT NULL") == 0


@pytest.mark.slow
def test_rate_limit_and_outage_are_waited_for(stage: Stage, twilio: TwilioWorld) -> None:
    """Prefect asks again after 2 and 4 seconds."""
    sent = send(twilio)
    tell(stage, sent)
    twilio.faults.add(json_fault(429, {"code": 20429, "status": 429}))
    twilio.faults.add(json_fault(503, {"code": 20503, "status": 503}))
    polled = run(poll_messages, list_days=0)

    assert polled.result == {"settled": 1}
    asked = [task_run for task_run in task_runs(polled.id, 3) if task_run.name == "ask Twilio about 1 messages"]
    assert [task_run.run_count for task_run in asked] == [3]


@pytest.mark.slow
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
    polled = run(poll_messages, list_days=0)

    assert polled.result == {"settled": 1, "unreadable": 1}


def test_list_that_goes_round_in_circles_ends_with_an_error(stage: Stage, twilio: TwilioWorld) -> None:
    """Else it would be read for ever; what was read is settled."""
    day = datetime.now(UTC).date()
    path = list_path(twilio.account_sid, day)
    twilio.faults.add(json_fault(200, {"messages": [], "next_page_uri": path}), times=9)
    ended = run(poll_messages, list_days=1)

    assert isinstance(ended.result, ProviderUnavailable)
    assert "has no end" in str(ended.result)
