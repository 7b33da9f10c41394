"""Delivery plans, and sending them to a real endpoint."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter

import pytest

from calltally.sandbox.deliveries import Weather, plan_deliveries
from calltally.sandbox.messages import Message
from calltally.sandbox.sending import NO_RETRIES, Retries, Target, send, send_now, vapi_backoff
from calltally.sandbox.signing import Signer, VapiBearer, VapiHmac, VapiSecret
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_webhooks import messages_about

from .conftest import NOW, Endpoint, placing


def messages(count: int) -> list[Message]:
    """Return the messages of so many connected calls."""
    return messages_about(placing(VapiWorld())(count, never_connected_share=0.0))


def test_plan_in_fair_weather_delivers_everything_once_in_order() -> None:
    """Nothing is lost, doubled or moved."""
    planned = plan_deliveries(messages(20))

    assert messages(20) == [delivery.message for delivery in planned.deliveries]
    assert (planned.lost, planned.duplicates) == ([], 0)


def test_plan_with_an_exact_share_loses_that_many_reports() -> None:
    """8 % of 300 reports are 24, and the plan names exactly the missing ones."""
    planned = plan_deliveries(messages(300), Weather(lost_reports_share=0.08), seed=1)

    arriving = {each.message.subject_id for each in planned.deliveries if each.message.is_report}
    assert len(planned.lost) == 24
    assert arriving.isdisjoint(planned.lost)
    assert len(arriving) + 24 == 300
    assert all(message.is_report for message in planned.lost_messages)


def test_plan_with_a_seed_repeats_and_another_seed_differs() -> None:
    """Weather is random only in its seed."""
    weather = Weather(loss_rate=0.2, duplicate_rate=0.2, delay_rate=0.3, disorder_rate=0.3)
    first, again, other = (plan_deliveries(messages(50), weather, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_plan_with_duplicates_repeats_the_same_bytes_later() -> None:
    """Each copy comes after its original and equals it."""
    planned = plan_deliveries(messages(40), Weather(duplicate_rate=0.5), seed=3)

    counts = Counter(delivery.message.body for delivery in planned.deliveries)
    assert {1, 2} == set(counts.values())
    assert planned.duplicates == sum(1 for count in counts.values() if count == 2)


def test_plan_with_delays_changes_the_order_and_keeps_the_set() -> None:
    """Late and disordered messages are still the same messages."""
    late = plan_deliveries(messages(40), Weather(delay_rate=0.5, longest_delay_seconds=86_400), seed=3)
    mixed = plan_deliveries(messages(40), Weather(disorder_rate=1.0), seed=3)

    for planned in (late, mixed):
        arrived = [delivery.message for delivery in planned.deliveries]
        assert messages(40) != arrived
        assert {each.body for each in messages(40)} == {each.body for each in arrived}


def test_weather_with_an_impossible_rate_is_refused() -> None:
    """A rate of 8 is a typing error for 8 %."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        Weather(lost_reports_share=8)


def test_sending_delivers_the_plan_in_order(endpoint: Endpoint) -> None:
    """With one connection the endpoint sees the bytes in the order of the plan."""
    planned = plan_deliveries(messages(10), Weather(disorder_rate=0.5), seed=1)

    report = send_now(planned.deliveries, Target(endpoint.url, VapiBearer("token")), concurrency=1)

    assert [delivery.message.body for delivery in planned.deliveries] == endpoint.bodies
    assert report.final_statuses == {"200": 30}


def test_sending_concurrently_delivers_everything(endpoint: Endpoint) -> None:
    """Many connections deliver the same set, and each outcome belongs to its delivery."""
    planned = plan_deliveries(messages(20))
    target = Target(endpoint.url, VapiBearer("token"))

    report = asyncio.run(send(planned.deliveries, target, concurrency=8))

    assert Counter(each.body for each in messages(20)) == Counter(endpoint.bodies)
    assert list(planned.deliveries) == [outcome.delivery for outcome in report.outcomes]


def test_sending_at_a_rate_takes_its_time(endpoint: Endpoint) -> None:
    """At 100 per second ten deliveries take at least a tenth of a second."""
    deliveries = plan_deliveries(messages(4)).deliveries[:10]
    began = time.monotonic()

    send_now(deliveries, Target(endpoint.url, VapiBearer("t")), concurrency=2, per_second=100)

    assert len(endpoint.received) == 10
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(
    ("signer", "expected"),
    [
        (VapiBearer("token"), {"authorization": "Bearer token"}),
        (VapiSecret("token"), {"x-vapi-secret": "token"}),
    ],
)
def test_sending_with_a_fixed_credential_sets_its_header(
    endpoint: Endpoint, signer: Signer, expected: dict[str, str]
) -> None:
    """Bearer token and secret travel as documented."""
    send_now(plan_deliveries(messages(1)).deliveries, Target(endpoint.url, signer))

    headers, _ = endpoint.received[0]
    assert expected.items() <= headers.items()


@pytest.mark.parametrize(
    ("signer", "timestamp"),
    [(VapiHmac("key"), "1793761200"), (VapiHmac("key", "ms"), "1793761200000")],
)
def test_sending_with_hmac_signs_timestamp_and_raw_body(endpoint: Endpoint, signer: VapiHmac, timestamp: str) -> None:
    """The default plan signs `{timestamp}.{body}` with sha256 in hex."""
    target = Target(endpoint.url, signer)
    send_now(plan_deliveries(messages(1)).deliveries, target, clock=NOW.timestamp)

    headers, body = endpoint.received[0]
    expected = hmac.new(b"key", timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert (timestamp, expected) == (headers["x-timestamp"], headers["x-signature"])


def test_refused_delivery_is_not_retried_by_default(endpoint: Endpoint) -> None:
    """Vapi sends once."""
    endpoint.answers = [503]

    report = send_now(plan_deliveries(messages(1)).deliveries[:1], Target(endpoint.url, VapiBearer("t")))

    assert (report.outcomes[0].statuses, report.outcomes[0].accepted) == ((503,), False)
    assert len(endpoint.received) == 1


def test_refused_delivery_with_a_backoff_plan_is_repeated(endpoint: Endpoint) -> None:
    """Any status but 2xx is repeated until accepted."""
    endpoint.answers = [503, 404, 302]
    target = Target(endpoint.url, VapiBearer("t"), vapi_backoff("exponential", 5, 0.001))

    report = send_now(plan_deliveries(messages(1)).deliveries[:1], target)

    assert report.outcomes[0].statuses == (503, 404, 302, 200)
    assert report.final_statuses == {"200": 1}


def test_backoff_plan_gives_up_on_excluded_statuses(endpoint: Endpoint) -> None:
    """An excluded status ends the attempts."""
    endpoint.answers = [503, 401]
    retries = vapi_backoff("fixed", 5, 0.001, frozenset({401}))

    report = send_now(plan_deliveries(messages(1)).deliveries[:1], Target(endpoint.url, VapiBearer("t"), retries))

    assert report.outcomes[0].statuses == (503, 401)


def test_backoff_plan_doubles_or_stays() -> None:
    """Exponential waits double from the base, fixed ones repeat it."""
    assert Retries((2, 4, 8)) == vapi_backoff("exponential", 3, 2)
    assert Retries((2, 2, 2)) == vapi_backoff("fixed", 3, 2)
    assert NO_RETRIES.delays_seconds == ()


def test_sending_to_nobody_reports_a_broken_connection() -> None:
    """A refused connection is an outcome, not an exception."""
    target = Target("http://127.0.0.1:9/webhooks", VapiBearer("t"), Retries((0.001,)))

    report = send_now(plan_deliveries(messages(1)).deliveries[:1], target)

    assert report.outcomes[0].statuses == (None, None)
    assert report.final_statuses == {"broken": 1}


def test_delivered_bodies_are_json(endpoint: Endpoint) -> None:
    """The endpoint can read what it gets."""
    send_now(plan_deliveries(messages(1)).deliveries, Target(endpoint.url, VapiBearer("t")))

    headers, body = endpoint.received[0]
    assert headers["content-type"] == "application/json"
    assert "message" in json.loads(body)
