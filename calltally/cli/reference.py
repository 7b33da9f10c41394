"""Writes docs/reference/cli.md from the program: `python -m calltally.cli.reference`.

A test says if the page is not current.
"""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from calltally.cli import VERBS, app, load_verb

FILE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
SPACES = re.compile(r"\s+")

HEAD = """# Command line

<!-- Written by `python -m calltally.cli.reference`; never by hand. -->

`calltally VERB --help` says the same. Amounts that you type are in currency units (`25.00`); `--json` answers in
micros, millionths of the unit. ORG is the id or the name of an organization. Times without a zone are UTC. Without
`DATABASE_URL` the embedded database is used, and started if it is not running.

| exit code | means |
|---|---|
| 0 | done; for `status`, `doctor`, `explain` and `books check`: all is well (`doctor`: at most warnings) |
| 1 | refused, or something is wrong; the error says what to do |
| 2 | wrong usage |
| 130 | interrupted |

`calltally --install-completion` teaches your shell the verbs and their options.
"""


def reference() -> str:
    """The page."""
    program: Any = typer.main.get_command(app)
    with program.make_context("calltally", [], resilient_parsing=True) as context:
        parts = [HEAD, _contents()]
        for name in VERBS:
            parts += _verb(load_verb(name), f"calltally {name}", context)
    return "\n".join(parts).rstrip() + "\n"


def _contents() -> str:
    rows = [f"| [`{name}`](#calltally-{name}) | {verb.help} |" for name, verb in VERBS.items()]
    return "\n".join(["| verb | what it does |", "|---|---|", *rows, ""])


def _verb(command: Any, path: str, parent: Any) -> list[str]:
    """A verb, or a group with the verbs in it."""
    with command.make_context(path.rpartition(" ")[2], [], parent=parent, resilient_parsing=True) as context:
        inner = getattr(command, "commands", {})
        depth = "#" * (path.count(" ") + 1)
        lines = [f"{depth} {path}", "", _sentences(command.help or ""), ""]
        if inner:
            return lines + [line for name in inner for line in _verb(inner[name], f"{path} {name}", context)]
        pieces = " ".join(command.collect_usage_pieces(context))
        return [*lines, "```", f"{path} {pieces}".rstrip(), "```", "", *_parameters(command)]


def _parameters(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        written = parameter.metavar if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
        rows.append(f"| `{written or parameter.name.upper()}` | {_described(parameter)} |")
    return ["| argument or option | |", "|---|---|", *rows, ""] if rows else []


def _described(parameter: Any) -> str:
    told = [_sentences(parameter.help or "")]
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        told.append(f"One of {', '.join(f'`{choice.value}`' for choice in kind)}.")
    if parameter.required:
        told.append("Required.")
    elif parameter.default not in (None, False, (), []) and not callable(parameter.default):
        told.append(f"Default: `{parameter.default}`.")
    return " ".join(part for part in told if part).replace("|", "\\|")


def _sentences(text: str) -> str:
    """Paragraphs as they are, lines joined."""
    return "\n\n".join(SPACES.sub(" ", paragraph).strip() for paragraph in text.split("\n\n"))


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(reference(), encoding="utf-8")
