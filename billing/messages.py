"""What Slack messages are made of: blocks within its limits (docs.slack.dev, Block Kit), and text from figures."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any

from billing.figures import Reliability
from billing.literal import in_slack, visible

MAX_REFERENCES = 10
"""Ids in one message; the rest is a number and a link."""

Block = dict[str, Any]


def percent(share: Decimal | None) -> str:
    """Two decimals, cut and not rounded, so that 94.999 % never reads as the threshold: the only way to write one."""
    return "no calls" if share is None else f"{(share * 100).quantize(Decimal('0.01'), ROUND_DOWN)} %"


def with_interval(share: Reliability) -> str:
    """`98.00 % (95 % interval 92.99 % to 99.44 %)`."""
    if share.interval is None:
        return percent(None)
    low, high = share.interval
    return f"{percent(share.ratio)} (95 % interval {percent(low)} to {percent(high)})"


def header(text: str) -> Block:
    """The title of a message: plain, at most 150 characters."""
    return {"type": "header", "text": {"type": "plain_text", "text": cut(visible(text), 150)}}


def section(title: str, text: str) -> Block:
    """A paragraph with a bold title."""
    return {"type": "section", "text": _text(f"*{in_slack(title)}*\n{in_slack(text, lines=True)}")}


def fields(values: Mapping[str, str]) -> Block:
    """Names and values side by side, at most 10."""
    shown = list(values.items())[:10]
    return {
        "type": "section",
        "fields": [_text(f"*{in_slack(name)}*\n{in_slack(value, lines=True)}", 2000) for name, value in shown],
    }


def button(text: str, url: str) -> Block:
    """A link that looks like a button."""
    shown = {"type": "plain_text", "text": cut(visible(text), 75)}
    return {"type": "actions", "elements": [{"type": "button", "action_id": "open", "text": shown, "url": url}]}


def context(markdown: str) -> Block:
    """A line in small type; may hold links, so its words must be escaped already."""
    return {"type": "context", "elements": [_text(markdown)]}


def message(text: str, blocks: Sequence[Block]) -> dict[str, object]:
    """What an incoming webhook takes; `text` is for notifications and for those who cannot see blocks."""
    return {"text": in_slack(cut(text, 1000)), "blocks": list(blocks), "unfurl_links": False, "unfurl_media": False}


def code(content: object) -> str:
    """Something to be copied, such as an id; a sign that would end it early is shown as another quote."""
    text = visible(str(content)).replace("`", "'")
    return f"`{text}`"


def listing(ids: Sequence[object], count: int) -> str:
    """The first ids of so many, and how many more there are."""
    shown = [code(found) for found in ids[:MAX_REFERENCES]]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def cut(text: str, length: int) -> str:
    """At most so long; what is cut off leaves a mark."""
    return text if len(text) <= length else text[: length - 1] + "…"


def in_words(seconds: float) -> str:
    """A length of time for people, in its largest unit: `3 min`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "min"):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _text(markdown: str, length: int = 3000) -> dict[str, Any]:
    """`verbatim`: an address or an @channel in it stays text; links are those that we write."""
    return {"type": "mrkdwn", "text": cut(markdown, length), "verbatim": True}
