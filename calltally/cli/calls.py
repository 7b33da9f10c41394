"""Single calls: whose they are, and how long they lasted, where nobody but a person can say it."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from billing.errors import InvalidAmount
from billing.naming import naming_command
from billing.organizations import look_up_organization
from calltally.cli.database import quick_books
from calltally.cli.output import MOST, Json, Organization, print_facts, print_json, print_rows

call = typer.Typer(
    no_args_is_help=True, help="Calls that only a person can decide: whose one is, how long it lasted."
)

MILLISECONDS = 1000
Call = Annotated[str, typer.Argument(metavar="CALL", help="Vapi's id of the call.")]
Reason = Annotated[str | None, typer.Option(help="Why; it is kept with the decision.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(call, name="call")


@call.command("held")
def held(
    limit: Annotated[int, typer.Option(help="How many, the oldest first.", min=1, max=MOST)] = 100,
    as_json: Json = False,
) -> None:
    """Calls that are held, why, and what decides each; then those that nobody pays for."""
    with quick_books() as books:
        waiting = books.rows(
            "SELECT calls.id, name AS organization, held, calls.created_at, started_at, ended_at,"
            " provider_cost_micros, assistant_id, squad_id, workflow_id, phone_number_id, metadata,"
            " held = held_by_metadata() AS names_two"
            " FROM calls LEFT JOIN organizations ON organizations.id = organization_id"
            " WHERE held IS NOT NULL OR organization_id IS NULL"
            " ORDER BY held IS NULL, first_seen_at, calls.id LIMIT :limit",
            limit=limit,
        )
    if as_json:
        print_json([{**row, "next": _next(row)} for row in waiting])
        return
    shown = [
        {
            "call": row["id"],
            "organization": row["organization"],
            "why": row["held"] or "no route says whose it is",
            "next": _next(row),
        }
        for row in waiting
    ]
    print_rows(shown, as_json=False, title="Held and unattributed calls")


def _next(row: dict[str, object]) -> str:
    """The command that decides."""
    if row["held"] is None:
        return naming_command(row)
    if row["names_two"]:
        return f"calltally call assign {row['id']} ORG"
    return f"calltally call release {row['id']} --duration SECONDS"


@call.command("assign")
def assign(call_id: Call, organization: Organization, reason: Reason = None, as_json: Json = False) -> None:
    """Say whose a call is that no route can name, or that names two; it is charged at once."""
    with quick_books() as books:
        organization_id = look_up_organization(books.rows, organization)
        answer = books.rows(
            "SELECT * FROM assign_call(:call_id, :organization_id, :reason)",
            call_id=call_id,
            organization_id=organization_id,
            reason=reason,
        )[0]
    print_facts({"call": call_id, **answer}, as_json=as_json)


@call.command("release")
def release(
    call_id: Call,
    duration: Annotated[
        str | None,
        typer.Option(help="Seconds that it lasted, such as 61.5; 0: it costs nothing. Default: as Vapi told it."),
    ] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Say how long a held call lasted; it is charged at once, at the price of its time."""
    with quick_books() as books:
        answer = books.rows(
            "SELECT * FROM release_call(:call_id, :duration_ms, :reason)",
            call_id=call_id,
            duration_ms=None if duration is None else _milliseconds(duration),
            reason=reason,
        )[0]
    print_facts({"call": call_id, **answer}, as_json=as_json)


def _milliseconds(text: str) -> int:
    """Seconds as a person types them."""
    try:
        milliseconds = Decimal(text) * MILLISECONDS
        whole = int(milliseconds)
    except (InvalidOperation, ValueError, OverflowError):
        whole, milliseconds = -1, Decimal(0)
    if whole != milliseconds or not 0 <= whole <= 10**12:
        raise InvalidAmount(f"--duration {text}: write seconds with up to three decimals, for example 61.5")
    return whole
