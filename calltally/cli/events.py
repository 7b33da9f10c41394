"""The inbox: what arrived and what became of it."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from billing.errors import PermanentError
from calltally.cli.database import open_books, quick_books
from calltally.cli.output import Json, print_facts, print_json, print_rows, progress, utc

if TYPE_CHECKING:
    from sqlalchemy import Engine

events = typer.Typer(no_args_is_help=True, help="Events: webhook deliveries and what became of them.")

CHUNK = 500
"""Events that a replay puts back in one transaction."""


class State(StrEnum):
    """What became of an event."""

    WAITING = "waiting"
    ACTIVE = "active"
    DELAYED = "delayed"
    DONE = "done"
    SKIPPED = "skipped"
    PARKED = "parked"
    DEAD = "dead"


class Provider(StrEnum):
    """Who sends webhooks."""

    STRIPE = "stripe"
    VAPI = "vapi"
    TWILIO = "twilio"


InState = Annotated[State | None, typer.Option("--state", help="Only those in this state.", show_default=False)]
Type = Annotated[str | None, typer.Option("--type", help="For example end-of-call-report.")]
From = Annotated[Provider | None, typer.Option("--provider", help="Only those of this provider.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(events, name="events")


@events.command("list")
def list_events(
    state: InState = None,
    event_type: Type = None,
    provider: From = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """The newest events."""
    with quick_books() as books:
        found = books.rows(
            "SELECT id, state, provider, type, received_at, deliveries, attempts, delivery_key, reason"
            " FROM events WHERE (CAST(:state AS text) IS NULL OR state = :state)"
            " AND (CAST(:type AS text) IS NULL OR type = :type)"
            " AND (CAST(:provider AS text) IS NULL OR provider = :provider) ORDER BY id DESC LIMIT :limit",
            state=state and state.value,
            type=event_type,
            provider=provider and provider.value,
            limit=limit,
        )
    print_rows(found, as_json=as_json, title="Events")


@events.command("show")
def show(event_id: Annotated[int, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """The whole life of one event; its body is not shown, since it holds personal data."""
    from billing.event_life import event_life  # noqa: PLC0415 - reads the body, as the worker does
    from billing.settings import get_settings  # noqa: PLC0415

    with open_books() as engine:
        life = event_life(engine, event_id, get_settings().prefect_pages_url)
    if as_json:
        print_json(life)
        return
    attempts, transfers = life.pop("failed_attempts"), life.pop("transfers")
    print_facts(life, as_json=False)
    print_rows(attempts, as_json=False, title="Failed attempts")
    print_rows(transfers, as_json=False, title="Transfers booked")


@events.command("replay")
def replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    state: InState = None,
    event_type: Type = None,
    provider: From = None,
    error: Annotated[str | None, typer.Option(help="Only those whose reason contains this text.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Received since then (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Received before then (UTC).")] = None,
    dry_run: Annotated[bool, typer.Option(help="Show the transfers that it would make, and change nothing.")] = False,
    plan: Annotated[
        str | None, typer.Option(help="Apply at once, if it comes to exactly this rehearsed plan.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put ended events back in line; what is booked already stays booked once."""
    from billing.replay import Selection, apply_plan, rehearse, select_events  # noqa: PLC0415 - applies events itself

    if not ids and state is None:
        raise PermanentError("say which events: ids, or --state dead (with --type, --error or --since)")
    selection = Selection(
        ids=ids or None,
        state=state and state.value,
        type=event_type,
        provider=provider and provider.value,
        error=error,
        since=utc(since),
        until=utc(until),
    )
    with open_books() as engine:
        chosen = select_events(engine, selection)
        if not dry_run and plan is None:
            woken = _put_back(engine, chosen)
            print_facts({"replayed": len(woken), "ids": woken}, as_json=as_json)
            return
        result = rehearse(engine, chosen) if plan is None else apply_plan(engine, chosen, plan)
    if as_json:
        print_json({"plan": result.digest, "outcomes": result.outcomes, "transfers": result.transfers})
        return
    print_rows(result.outcomes, as_json=False, title="How the events end")
    print_rows(result.transfers, as_json=False, title="Transfers")
    if plan is None:
        print_facts({"plan": result.digest, "to apply it": f"the same with --plan {result.digest}"}, as_json=False)


def _put_back(engine: "Engine", chosen: list[int]) -> list[int]:
    """A chunk at a time: many events are no single long transaction, and a person sees how far it is."""
    from billing.replay import replay as put_back_in_line  # noqa: PLC0415

    chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    return [
        event_id for chunk in progress(chunks, "Putting events back") for event_id in put_back_in_line(engine, chunk)
    ]
