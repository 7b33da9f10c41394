"""`calltally explain`: why a call costs what it costs, for people who were not there."""

import re
from typing import Annotated, Any

import typer

from calltally.cli.database import quick_books
from calltally.cli.output import Json, literal, print_json

KEY = re.compile(r"^call:(.*?)(:correction:\d+)?$")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(explain)


def explain(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Vapi's id of the call, or the key of its charge.")],
    as_json: Json = False,
) -> None:
    """Why does this call cost what it costs?

    Times and where they come from, who pays and why, the price, each step of the arithmetic, what was booked, and
    whether the arithmetic done again equals it. Exit code 1 if it does not, or if nobody knows the call.
    """
    from billing.explain import explain_call  # noqa: PLC0415

    key = KEY.fullmatch(call)
    with quick_books() as books:
        story = explain_call(books.rows, key.group(1) if key else call)
    if as_json:
        print_json(story)
    else:
        _print(story)
    if not story["verdict"]["matches"]:
        raise typer.Exit(1)


def _print(story: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from calltally.cli.explain_text import closing, sections  # noqa: PLC0415

    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 160
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    for label, lines in sections(story):
        table.add_row(label, literal(*lines))
    console.print(table)
    console.print(literal(closing(story), style="green" if story["verdict"]["matches"] else "bold red"))
