"""Slack's incoming webhook, used through the official client."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.http_retry.handler import RetryHandler
from slack_sdk.webhook import WebhookClient

from calltally.sandbox.faults import text_fault
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.slack import refusal
from calltally.sandbox.wire import encode_json


def section(text: str) -> dict[str, Any]:
    """Return a section block."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def header(text: str) -> dict[str, Any]:
    """Return a header block."""
    return {"type": "header", "text": {"type": "plain_text", "text": text}}


def button(**fields: Any) -> dict[str, Any]:
    """Return an actions block with one link button."""
    element = {"type": "button", "text": {"type": "plain_text", "text": "Open"}, **fields}
    return {"type": "actions", "elements": [element]}


def test_posted_message_is_kept_and_listed(sandbox: RunningSandbox) -> None:
    """The official client gets `ok`, and the message can be read back."""
    client = WebhookClient(sandbox.slack_webhook_url)

    response = client.send(text="24 calls recovered", blocks=[header("Night"), section("24 calls")])

    listed = httpx.get(f"{sandbox.base_url}/slack/messages", trust_env=False).json()
    assert (response.status_code, response.body) == (200, "ok")
    assert sandbox.slack.messages == listed
    assert listed[0]["text"] == "24 calls recovered"


def test_unknown_webhook_answers_no_service(sandbox: RunningSandbox) -> None:
    """A revoked or mistyped address keeps nothing."""
    response = WebhookClient(f"{sandbox.base_url}/slack/services/T/B/other").send(text="hello")

    assert (response.status_code, response.body) == (404, "no_service")
    assert sandbox.slack.messages == []


def test_refused_blocks_answer_400_and_are_not_kept(sandbox: RunningSandbox) -> None:
    """A header beyond 150 characters is refused as a whole."""
    response = WebhookClient(sandbox.slack_webhook_url).send(text="t", blocks=[header("x" * 151)])

    assert (response.status_code, response.body) == (400, "invalid_blocks")
    assert sandbox.slack.messages == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"text": ""}', b"\xff"])
def test_unreadable_or_empty_message_is_an_invalid_payload(body: bytes) -> None:
    """A message needs JSON with text or blocks."""
    assert refusal(body) == "invalid_payload"


@pytest.mark.parametrize(
    ("fits", "breaks"),
    [
        ([section("x")] * 50, [section("x")] * 51),
        ([header("x" * 150)], [header("x" * 151)]),
        ([section("x" * 3_000)], [section("x" * 3_001)]),
        ([header("x")], [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]),
        (
            [{"type": "section", "fields": [section("x")["text"]] * 10}],
            [{"type": "section", "fields": [section("x")["text"]] * 11}],
        ),
        ([button(url="x" * 3_000)], [button(url="x" * 3_001)]),
        ([button(value="x" * 2_000)], [button(value="x" * 2_001)]),
        ([{"type": "divider", "block_id": "x" * 255}], [{"type": "divider", "block_id": "x" * 256}]),
        (
            [{"type": "context", "elements": [section("x")["text"]] * 10}],
            [{"type": "context", "elements": [section("x")["text"]] * 11}],
        ),
        ([{"type": "divider"}], [{"type": "video_wall"}]),
    ],
)
def test_blocks_are_refused_just_beyond_a_limit(fits: list[dict[str, Any]], breaks: list[dict[str, Any]]) -> None:
    """Each limit lies where Slack documents it."""
    assert refusal(encode_json({"blocks": fits})) is None
    assert refusal(encode_json({"blocks": breaks})) == "invalid_blocks"


def test_rate_limited_message_is_kept_after_the_client_waited(sandbox: RunningSandbox) -> None:
    """A 429 with `Retry-After` is obeyed by the official client."""
    sandbox.slack.faults.add(text_fault(429, "rate_limited", retry_after_seconds=0))
    handlers: list[RetryHandler] = [RateLimitErrorRetryHandler(max_retry_count=1)]

    response = WebhookClient(sandbox.slack_webhook_url, retry_handlers=handlers).send(text="hello")

    assert (response.status_code, len(sandbox.slack.messages)) == (200, 1)


def test_server_error_keeps_nothing(sandbox: RunningSandbox) -> None:
    """A 500 has Slack's plain text."""
    sandbox.slack.faults.add(text_fault(500, "rollup_error"))

    response = WebhookClient(sandbox.slack_webhook_url).send(text="hello")

    assert (response.status_code, response.body, len(sandbox.slack.messages)) == (500, "rollup_error", 0)
