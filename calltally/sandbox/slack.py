"""Slack's incoming webhook: keeps the messages it accepts and refuses what Slack would refuse.

Limits follow Slack's Block Kit reference; errors are plain text. How Slack words a broken limit is not
documented in detail, `invalid_blocks` is what callers report.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from calltally.sandbox.faults import FaultQueue, FaultyEdge
from calltally.sandbox.wire import JsonObject

WEBHOOK_PATH = "/services/T00SANDBOX/B00SANDBOX/sandbox"

MAX_BLOCKS = 50
MAX_BLOCK_ID = 255
MAX_HEADER = 150
MAX_SECTION = 3_000
MAX_FIELDS = 10
MAX_FIELD = 2_000
MAX_CONTEXT_ELEMENTS = 10
MAX_ACTIONS = 25
MAX_BUTTON_TEXT = 75
MAX_BUTTON_URL = 3_000
MAX_BUTTON_VALUE = 2_000
MAX_MARKDOWN = 12_000


class SlackWorld:
    """The messages of one channel, oldest first."""

    def __init__(self) -> None:
        self.faults = FaultQueue()
        self._messages: list[JsonObject] = []
        self._lock = threading.Lock()

    @property
    def messages(self) -> list[JsonObject]:
        """Return the accepted messages as they were sent."""
        with self._lock:
            return list(self._messages)

    def keep(self, message: JsonObject) -> None:
        """Add a message to the channel."""
        with self._lock:
            self._messages.append(message)

    def clear(self) -> None:
        """Forget all messages."""
        with self._lock:
            self._messages.clear()


def slack_app(world: SlackWorld) -> Starlette:
    """Return the webhook of this world and, for the sandbox alone, `GET /messages`."""

    async def post_message(request: Request) -> Response:
        if not request.url.path.endswith(WEBHOOK_PATH):
            return PlainTextResponse("no_service", 404)
        error = refusal(await request.body())
        if error is not None:
            return PlainTextResponse(error, 400)
        world.keep(await request.json())
        return PlainTextResponse("ok")

    async def list_messages(_: Request) -> Response:
        return JSONResponse(world.messages)

    return Starlette(
        routes=[
            Route("/services/{rest:path}", post_message, methods=["POST"]),
            Route("/messages", list_messages),
        ],
        middleware=[Middleware(FaultyEdge, faults=world.faults)],
    )


def refusal(body: bytes) -> str | None:
    """Return Slack's error for this body, None when it would be posted."""
    try:
        message = json.loads(body)
    except ValueError:
        return "invalid_payload"
    if not isinstance(message, dict) or not (message.get("text") or message.get("blocks")):
        return "invalid_payload"
    blocks = message.get("blocks", [])
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
        return "invalid_blocks"
    return None if all(_is_valid_block(block) for block in blocks) else "invalid_blocks"


def _is_valid_block(block: Any) -> bool:
    if not isinstance(block, dict) or len(block.get("block_id", "")) > MAX_BLOCK_ID:
        return False
    check = _CHECKS.get(block.get("type", ""))
    return check is not None and check(block)


def _is_valid_header(block: JsonObject) -> bool:
    return _is_text(block.get("text"), MAX_HEADER, ("plain_text",))


def _is_valid_context(block: JsonObject) -> bool:
    return 0 < len(block.get("elements", [])) <= MAX_CONTEXT_ELEMENTS


def _is_valid_actions(block: JsonObject) -> bool:
    elements = block.get("elements", [])
    return 0 < len(elements) <= MAX_ACTIONS and all(map(_is_valid_element, elements))


def _is_valid_markdown(block: JsonObject) -> bool:
    return 0 < len(block.get("text", "")) <= MAX_MARKDOWN


def _is_valid_section(block: JsonObject) -> bool:
    if "text" not in block and "fields" not in block:
        return False
    fields: list[Any] = block.get("fields", [])
    return (
        ("text" not in block or _is_text(block["text"], MAX_SECTION))
        and len(fields) <= MAX_FIELDS
        and all(_is_text(field, MAX_FIELD) for field in fields)
    )


def _is_valid_element(element: Any) -> bool:
    if not isinstance(element, dict):
        return False
    if element.get("type") != "button":
        return True
    return (
        _is_text(element.get("text"), MAX_BUTTON_TEXT, ("plain_text",))
        and len(element.get("url", "")) <= MAX_BUTTON_URL
        and len(element.get("value", "")) <= MAX_BUTTON_VALUE
    )


def _is_text(text: Any, limit: int, types: tuple[str, ...] = ("plain_text", "mrkdwn")) -> bool:
    if not isinstance(text, dict) or text.get("type") not in types:
        return False
    return 0 < len(str(text.get("text", ""))) <= limit


def _is_unchecked(_: JsonObject) -> bool:
    return True


_CHECKS: dict[str, Callable[[JsonObject], bool]] = {
    "header": _is_valid_header,
    "section": _is_valid_section,
    "context": _is_valid_context,
    "actions": _is_valid_actions,
    "markdown": _is_valid_markdown,
    "divider": _is_unchecked,
    "image": _is_unchecked,
    "rich_text": _is_unchecked,
    "table": _is_unchecked,
}
