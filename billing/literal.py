"""Text from outside, so that it shows as what it is: names, ids, keys and reasons give no orders to what shows them.

A terminal obeys control characters, a reader is fooled by marks of direction and by what has no width, and Markdown,
Slack and spreadsheets each have signs of their own. Whoever writes for people takes the function of the place; JSON
and Parquet keep the exact text.
"""

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks by name that are drawn as nothing."""
MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>()#|~!&@^]|:(?=//)|(?<=www)\.|^[-+=]|(?<=^\d)[.)])", re.IGNORECASE)
"""Also what makes links of bare addresses, `&` of entities, and what makes a list or a line of the start."""
STARTS_FORMULA: Final = re.compile(r"(^|[;,|])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""What a spreadsheet would calculate instead of show, at the start of a cell, or of what becomes one where another
sign separates cells; the last four are the full-width forms."""
DELETE: Final = "\x7f"
"""The one control character that JSON writes as it is."""


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with what cannot be seen as escapes: `\x1b`, `\u202e`, `\n`; `lines` keeps the ends of lines.

    Spaces of every width, letters, marks and emoji stay. Control characters, marks of direction, joiners, separators
    of lines, surrogates, private and unassigned ones do not.
    """
    if text.isascii() and text.isprintable():
        return text
    if lines:
        return "\n".join(visible(line) for line in text.split("\n"))
    return "".join(sign if _is_seen(sign) else sign.encode("unicode_escape").decode() for sign in text)


def visible_throughout(content: Any) -> Any:
    """Facts as JSON has them, with every text in them on one visible line."""
    match content:
        case str():
            return visible(content)
        case Mapping():
            return {name: visible_throughout(part) for name, part in content.items()}
        case list() | tuple():
            return [visible_throughout(part) for part in content]
        case _:
            return content


def in_markdown(text: str) -> str:
    """As it stands within a paragraph, a cell or the name of a link: no markup, no link, no new cell or line."""
    return MARKDOWN.sub(r"\\\1", visible(text).strip())


def in_markdown_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table of Prefect's, which shows every text in it as Markdown."""
    return {name: in_markdown(content) if isinstance(content, str) else content for name, content in row.items()}


def in_slack(text: str, *, lines: bool = False) -> str:
    """Within a text of Slack's: neither a link nor a call to all of the channel (docs.slack.dev, formatting)."""
    return visible(text, lines=lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def in_spreadsheet(text: str) -> str:
    """On one line, and calculated by no spreadsheet."""
    return STARTS_FORMULA.sub(r"\1\2'", visible(text))


def in_json(content: Any, *, default: Callable[[Any], Any] | None = None, indent: int | None = None) -> str:
    """Exact, in ASCII, and no order to the terminal that shows it."""
    return json.dumps(content, default=default, indent=indent).replace(DELETE, "\\u007f")


class LiteralRecord(logging.LogRecord):
    """A record of a log that is one line, whatever is quoted in it; the lines of a traceback are set in."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            told = logging.Formatter().formatException(self.exc_info)
            self.exc_text = "\n".join(f"    {line}" for line in visible(told, lines=True).splitlines())

    def getMessage(self) -> str:  # noqa: N802 - the name of the library
        """The message, on one line."""
        return visible(super().getMessage())


def log_literally() -> None:
    """Make every record of this process such a one, so that nothing that is quoted looks like a record of its own."""
    logging.setLogRecordFactory(LiteralRecord)


def _is_seen(sign: str) -> bool:
    return (sign.isprintable() and sign not in BLANK) or unicodedata.category(sign) == "Zs"
