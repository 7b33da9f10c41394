"""Writes docs/reference/{settings,http,sql,messages}.md and the README's table of events from the code:
`python -m tests.docs.reference`.

A test says if a page is not current. The command line writes its own page: `python -m calltally.cli.reference`.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr, TypeAdapter

from billing.events import MEANINGS
from billing.settings import Settings
from receiver.openapi import OPENAPI

from .messages import messages_page
from .pages import ROOT

FOLDER = ROOT / "docs" / "reference"
SQL = ROOT / "sql"
BY_HAND = "<!-- Written by `python -m tests.docs.reference`; never by hand. -->"


class Word(Enum):
    """How the types of settings are called."""

    str = "text"
    int = "whole number"
    float = "number"
    Decimal = "decimal"
    bool = "`true` or `false`"
    timedelta = "duration (ISO 8601)"
    Path = "folder"
    SecretStr = "secret"


# --- settings

SETTINGS_HEAD = f"""# Settings

{BY_HAND}

From the environment or from `.env` in the folder in which a program starts; `CALLTALLY_ENV_FILE` names another file.
The environment goes before the file, and an empty value counts as absent. [.env.example](../../.env.example) has all.

| name | type | default | meaning |
|---|---|---|---|
"""


def settings_page() -> str:
    """Every field of Settings, in its order."""
    told = _docstrings(Settings)
    examples = _env_comments()
    rows = []
    for name, field in Settings.model_fields.items():
        variable = name.upper()
        meaning = told.get(name) or examples[variable]
        shown = _cell(re.sub(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", _as_variable, meaning))
        rows.append(f"| `{variable}` | {_type_name(field.annotation)} | {_default(field.default)} | {shown} |")
    return SETTINGS_HEAD + "\n".join(rows) + "\n"


def _docstrings(model: type) -> dict[str, str]:
    """The string below each field."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    pairs = zip(definition.body, definition.body[1:], strict=False)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _env_comments() -> dict[str, str]:
    """What .env.example says of each variable."""
    text = _read(ROOT / ".env.example")
    return {name: comment for comment, name in re.findall(r"^# (.+)\n([A-Z0-9_]+)=", text, re.MULTILINE)}


def _as_variable(match: re.Match[str]) -> str:
    return f"`{match[1].upper()}`" if match[1] in Settings.model_fields else match[0]


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "secrets, with commas"
    parts = [part for part in get_args(kind) if part is not NoneType]
    if parts:
        return _type_name(parts[0])
    return Word[kind.__name__].value


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, SecretStr):
        raise TypeError("a secret has no default")
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{TypeAdapter(timedelta).dump_python(value, mode='json')}`"
    return f"`{value}`" if str(value) else "empty"


# --- http

HTTP_HEAD = f"""# HTTP

{BY_HAND}

What the receiver answers, on `RECEIVER_HOST` and `RECEIVER_PORT`. `GET /openapi.json` says the same for programs.
Webhooks prove themselves as their providers do it; operators send `Authorization: Bearer` and `OPERATOR_TOKEN`.
"""
LONG = 100
"""A body of so many characters is shown once."""
AUTHORIZATION = {
    "stripe": "Stripe's signature",
    "vapi": "Vapi's credential",
    "twilio": "Twilio's signature",
    "operator": "`Authorization: Bearer` with `OPERATOR_TOKEN`",
    "prometheus": "`Authorization: Bearer` with `METRICS_TOKEN`",
}


def http_page() -> str:
    """Every operation of the OpenAPI description."""
    parts = [HTTP_HEAD]
    for path, operations in OPENAPI["paths"].items():
        for verb, operation in operations.items():
            parts += _operation(f"{verb.upper()} {path}", operation)
    return "\n".join(parts).rstrip() + "\n"


def _operation(name: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}\n\n{operation['summary'].rstrip('?')}{'?' if operation['summary'].endswith('?') else '.'}"
    if "description" in operation:
        yield f"\n{operation['description']}"
    needed = [AUTHORIZATION[scheme] for choice in operation.get("security", []) for scheme in choice]
    yield f"\nNeeds: {' or '.join(needed) if needed else 'nothing'}."
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"\nTakes `{media}`{_fields(content['schema'])}."
    yield "\n| answer | when | body |\n|---|---|---|"
    last = ""
    for status, answer in sorted(operation["responses"].items()):
        body = " ".join(_body(media, content["schema"]) for media, content in answer.get("content", {}).items())
        shown = "the same" if body == last and len(body) > LONG else body
        yield f"| {status} | {_cell(answer['description'])} | {_cell(shown)} |"
        last = body
    yield ""


def _fields(schema: dict[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in schema.get("properties", {}))
    return f": {names}, each of which may be left out" if names else ""


def _body(media: str, schema: dict[str, Any]) -> str:
    if media != "application/json":
        return media
    return f"`{_shape(schema)}`" if schema.get("properties") else "JSON"


def _shape(schema: dict[str, Any]) -> str:
    """An example of it, in short."""
    if "const" in schema:
        return str(schema["const"]).lower() if isinstance(schema["const"], bool) else f'"{schema["const"]}"'
    if "enum" in schema:
        return " or ".join(f'"{choice}"' for choice in schema["enum"])
    if "properties" in schema:
        return "{" + ", ".join(f'"{name}": {_shape(inner)}' for name, inner in schema["properties"].items()) + "}"
    kind = schema.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(schema.get("format", kind))


# --- sql

SQL_HEAD = f"""# SQL

{BY_HAND}

From the comments in [sql/](../../sql/README.md), which says what they have in common: keys, errors, locks, roles.
Who may call which of the functions under *Functions* is in `sql/access.sql`; those under *Helpers* serve them.
"""
FUNCTION = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)^CREATE OR REPLACE FUNCTION (?P<name>\w+)\((?P<arguments>.*?)\)\s*"
    r"RETURNS (?P<returns>.*?)\s+LANGUAGE(?P<rest>.*?)(?:\bAS\b|\bRETURN\b)",
    re.MULTILINE | re.DOTALL,
)
COMMENT = re.compile(r"^COMMENT ON (?:TABLE|VIEW) (?:\w+\.)?(\w+) IS\s+'(.*?)';$", re.MULTILINE | re.DOTALL)


def sql_page() -> str:
    """Tables, functions, views and checks."""
    found = [match for file in sorted(SQL.glob("functions/*.sql")) for match in FUNCTION.finditer(_read(file))]
    doors = [match for match in found if "SECURITY DEFINER" in match["rest"]]
    helpers = [match for match in found if match not in doors and match["returns"] != "trigger"]
    return "\n".join(
        [
            SQL_HEAD,
            "## Tables\n",
            *_table("table", _table_comments()),
            "## Functions\n",
            *(_function(match) for match in doors),
            "## Helpers\n",
            *(_function(match) for match in helpers),
            "## Views\n",
            *_table("view", {file.stem: _first_comment(file) for file in sorted(SQL.glob("views/*.sql"))}),
            "## Reporting\n\nIn the schema `reporting`, for analysts.\n",
            *_table("view", {file.stem: _view_comment(file) for file in sorted(SQL.glob("reporting/*.sql"))}),
            "## Checks\n\nIn the schema `checks`; `check_books()` asks them all; no row when all is well.\n",
            *_table("check", {file.stem: _first_comment(file) for file in sorted(SQL.glob("checks/*.sql"))}),
        ]
    )


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _table(kind: str, rows: dict[str, str]) -> list[str]:
    return [f"| {kind} | |", "|---|---|", *(f"| `{name}` | {_cell(text)} |" for name, text in rows.items()), ""]


def _table_comments() -> dict[str, str]:
    files = sorted(SQL.glob("migrations/versions/*.sql"))
    return {name: _unquoted(text) for file in files for name, text in COMMENT.findall(_read(file))}


def _view_comment(file: Path) -> str:
    told = COMMENT.search(_read(file))
    return _unquoted(told[2]) if told else _first_comment(file)


def _unquoted(text: str) -> str:
    """A literal, which may go on in the next line, as one."""
    return " ".join(re.sub(r"'\n\s*'", "", text).replace("''", "'").split())


def _first_comment(file: Path) -> str:
    """The comment on top of a file."""
    lines = []
    for line in _read(file).splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def _function(match: re.Match[str]) -> str:
    arguments = " ".join(match["arguments"].split())
    returns = " ".join(match["returns"].split()).replace("( ", "(").replace(" )", ")")
    title = f"### {match['name']}\n\n`{match['name']}({arguments})` → `{returns}`\n"
    told = _told(match["comment"], match["name"])
    return f"{title}\n{told}\n" if told else title


def _told(comment: str, name: str) -> str:
    """A comment as Markdown: what is indented is a list."""
    lines = []
    for line in comment.splitlines():
        text = line.removeprefix("--").removeprefix(" ").replace("<", "&lt;")
        item = re.fullmatch(r" {2}(\S.*?)(?: {2,}(.*))?", text)
        if item:
            lines.append(f"- {item[1]}: {item[2]}" if item[2] else f"- {item[1]}")
        else:
            lines.append(f"  {text.strip()}" if text.startswith("   ") else text)
    story = "\n".join(lines).strip().removeprefix(f"{name}: ")
    return story if "_" in story.partition(" ")[0] else story[:1].upper() + story[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def slack_page() -> str:
    """Every message to Slack."""
    return messages_page(BY_HAND)


# --- the README's table of events

EVENTS_HEAD = "| provider | event | effect |\n|---|---|---|\n"
EVENTS_REST = (
    "| all | anything else | Skipped, with its reason; what names one of our organizations and money that is not"
    " booked waits, and is told (`skipped_money`) |\n"
)


def events_table() -> str:
    """Every event that means something to the books, with what it does, from billing/events.py."""
    meant: dict[tuple[str, str], list[str]] = {}
    for (provider, event_type), meaning in MEANINGS.items():
        told = inspect.getdoc(meaning)
        assert told, f"{meaning} does not say what it does"
        meant.setdefault((provider.capitalize(), told.partition("\n")[0].rstrip(".")), []).append(f"`{event_type}`")
    rows = [f"| {provider} | {', '.join(types)} | {effect} |\n" for (provider, effect), types in meant.items()]
    return EVENTS_HEAD + "".join(rows) + EVENTS_REST


def with_events_table(readme: str) -> str:
    """The README with its table as the code has it."""
    begin = readme.index(EVENTS_HEAD)
    end = readme.index(EVENTS_REST, begin) + len(EVENTS_REST)
    return readme[:begin] + events_table() + readme[end:]


PAGES = {"settings.md": settings_page, "http.md": http_page, "sql.md": sql_page, "messages.md": slack_page}


if __name__ == "__main__":
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), encoding="utf-8")
    README = ROOT / "README.md"
    README.write_text(with_events_table(README.read_text(encoding="utf-8")), encoding="utf-8")
