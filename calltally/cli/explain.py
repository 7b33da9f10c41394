"""`calltally explain`: why a call costs what it costs, for people who were not there."""

import re
from typing import Annotated, Any

import typer

from calltally.cli.database import quick_books
from calltally.cli.output import Json, literal, print_facts, print_json, print_rows

STRIPE_NAME = re.compile(r"((topup|refund|dispute):|(pi|ch|re|dp|du|txn)_)")
KEY = re.compile(r"^call:(.*?)(:correction:\d+)?$")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(explain)


def explain(
    call: Annotated[
        str,
        typer.Argument(
            metavar="CALL",
            help="Vapi's id of the call, or the key of its charge; or of a payment, refund or dispute (pi_…, re_…,"
            " dp_…, txn_…).",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Why does this call cost what it costs, or what became of this payment?

    Times and where they come from, who pays and why, the price, each step of the arithmetic, what was booked, and
    whether the arithmetic done again equals it. Of a payment: what was sold by it, what refunds and disputes moved,
    and what is booked of them. Exit code 1 if the books are not right about it, or if nobody knows it.
    """
    if STRIPE_NAME.match(call):
        _explain_payment(call, as_json=as_json)
        return
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


def _explain_payment(name: str, *, as_json: bool) -> None:
    from billing.explain_payment import explain_payment  # noqa: PLC0415

    with quick_books() as books:
        story = explain_payment(books.rows, name)
    if as_json:
        print_json(story)
    else:
        print_facts(story["payment"] or {"payment": "not credited"}, as_json=False)
        print_rows(story["movements"], as_json=False, title="Refunds and disputes")
        print_rows(story["transfers"], as_json=False, title="Transfers booked")
        print_facts(story["verdict"], as_json=False)
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
