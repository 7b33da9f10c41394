"""What commands print: tables for people, JSON with `--json` for programs."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from billing import money
from billing.errors import InvalidAmount
from billing.literal import in_json, visible
from billing.money import format_micros, parse_amount

T = TypeVar("T")

MAX_CELL = 60
"""Characters of a cell in a table; `--json` has all of them."""

MOST = 100_000
"""Rows that a command lists at most; more is for SQL."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON; amounts are micros.")]
JsonLine = Annotated[
    bool, typer.Option("--json", help="Print one line of JSON that says where it is; all else goes to stderr.")
]
Organization = Annotated[str, typer.Argument(metavar="ORG", help="Id or name of the organization.")]


def print_rows(rows: Sequence[dict[str, Any]], *, as_json: bool, title: str | None = None) -> None:
    """Rows of one shape."""
    if as_json:
        print_json(rows)
        return
    console = Console()
    if not console.is_terminal:
        console.width = 200
    if not rows:
        console.print(f"{title or 'Nothing'}: none")
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in rows[0]:
        justify: Literal["left", "right"] = "right" if column.endswith("_micros") else "left"
        table.add_column(_heading(column), justify=justify)
    for row in rows:
        table.add_row(*(literal(_shortened(_cell(column, content, row))) for column, content in row.items()))
    console.print(table)


def print_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    """One thing with its properties."""
    if as_json:
        print_json(facts)
        return
    table = Table.grid(padding=(0, 2))
    for name, content in facts.items():
        table.add_row(_heading(name), literal(_cell(name, content, facts)))
    Console().print(table)


def literal(*lines: str, style: str = "") -> Text:
    """Lines for a console: no markup, and nothing in one that its terminal obeys or that makes another line."""
    return Text("\n".join(visible(line) for line in lines), style)


def print_json(content: Any) -> None:
    """For programs."""
    typer.echo(in_json(content, default=_plain, indent=2))


def print_line(facts: dict[str, Any]) -> None:
    """Facts of a process that goes on, as one line of JSON; at once, for whoever reads them from a pipe."""
    sys.stdout.write(f"{in_json(facts, default=_plain)}\n")
    sys.stdout.flush()


def keep_stdout_for_json() -> None:
    """From now on, what this process or a library of its prints goes to stderr: what was told stands alone."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def progress(steps: Sequence[T], what: str) -> Iterable[T]:
    """The steps, with a bar on the terminal that says how far they are; nothing for one step or a pipe."""
    console = Console(stderr=True)
    if len(steps) < 2 or not console.is_terminal:  # noqa: PLR2004
        return steps
    from rich.progress import track  # noqa: PLC0415 - only for long work

    return track(steps, description=what, console=console, transient=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on the terminal that something is under way, while the block runs; nothing on a pipe."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def price(text: str) -> int:
    """The same as `amount` for what costs nothing or something.

    Raises:
        InvalidAmount: negative, or no amount.
    """
    micros = amount(text)
    if micros < 0:
        raise InvalidAmount(f"{text} is negative: a price or a limit is 0 or more")
    return micros


def currency_code(text: str) -> str:
    """An ISO code in capitals, for a callback of typer's."""
    try:
        return money.currency_code(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def email_address(text: str) -> str:
    """An address with both of its parts, for a callback of typer's."""
    name, _, host = text.rpartition("@")
    if not name or "." not in host.strip(".") or any(character.isspace() for character in text):
        raise typer.BadParameter(f"{text!r} is no e-mail address, such as billing@acme.example")
    return text


def amount(text: str) -> int:
    """An amount in currency units, as micros.

    Raises:
        InvalidAmount: with how to write one.
    """
    try:
        return parse_amount(text)
    except ValueError as error:
        raise InvalidAmount(str(error)) from error


def utc(moment: datetime | None) -> datetime | None:
    """A time that a person typed without a zone is in UTC."""
    return moment and moment.replace(tzinfo=moment.tzinfo or UTC)


def _plain(content: Any) -> Any:
    match content:
        case datetime():
            return content.isoformat()
        case timedelta():
            return content.total_seconds()
        case UUID() | Decimal():
            return str(content)
        case _:
            raise TypeError(f"{type(content).__name__} has no JSON form")


def _heading(column: str) -> str:
    return column.removesuffix("_micros").replace("_", " ")


def _cell(column: str, content: Any, row: dict[str, Any]) -> str:
    if content is None:
        return "-"
    if column.endswith("_micros"):
        return format_micros(content, row.get("currency", "USD"))
    if isinstance(content, datetime):
        return f"{content:%Y-%m-%d %H:%M:%S}"
    if isinstance(content, bool):
        return "yes" if content else "no"
    return str(content)


def _shortened(text: str) -> str:
    text = visible(text)
    return text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"
