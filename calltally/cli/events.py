"""The inbox: what arrived and what became of it."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.errors import PermanentError
from calltally.cli.database import open_books, quick_books
from calltally.cli.output import MOST, Json, print_facts, print_json, print_rows, progress, utc, working

if TYPE_CHECKING:
    from sqlalchemy import Engine

events = typer.Typer(no_args_is_help=True, help="Events: webhook deliveries and what became of them.")

LAST_ID = 2**63 - 1
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


class Ended(StrEnum):
    """A state that an event can be put back in line from; in every other one it is in line, or worked on."""

    DEAD = "dead"
    PARKED = "parked"
    SKIPPED = "skipped"
    DONE = "done"


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
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=MOST)] = 50,
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
def show(event_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=LAST_ID)], as_json: Json = False) -> None:
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
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", min=1, max=LAST_ID)] = None,
    state: Annotated[
        Ended | None, typer.Option("--state", help="Only those in this state.", show_default=False)
    ] = None,
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
    from billing.replay import Selection, select_events  # noqa: PLC0415 - applies events itself

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
        left = _why_not(engine, sorted(set(ids or []) - set(chosen)))
        if dry_run or plan is not None:
            _as_planned(engine, chosen, plan, left, as_json=as_json)
        else:
            woken = _put_back(engine, chosen)
            print_facts(
                {"replayed": len(woken), "ids": woken, **({"not_replayed": left} if as_json else {})}, as_json=as_json
            )
    if left:
        for event in () if as_json else left:
            typer.echo(f"Event {event['id']} was left out: {event['why']}", err=True)
        raise typer.Exit(1)


@events.command("dismiss")
def dismiss(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", min=1, max=LAST_ID)],
    reason: Annotated[str, typer.Option(help="Why nothing has to be done about them; it stays with them.")],
    as_json: Json = False,
) -> None:
    """End parked or dead events that are nobody's business here; nothing is booked, and they can be replayed."""
    with quick_books() as books:
        found = books.rows("SELECT dismiss_events(:ids, :reason) AS id ORDER BY id", ids=ids, reason=reason)
    ended = [row["id"] for row in found]
    left = sorted(set(ids) - set(ended))
    print_facts({"dismissed": len(ended), "ids": ended, **({"left": left} if left else {})}, as_json=as_json)
    if left:
        typer.echo(
            "Only parked and dead events can be dismissed: calltally events show ID says what became of it.", err=True
        )
        raise typer.Exit(1)


def _as_planned(
    engine: "Engine", chosen: list[int], plan: str | None, left: list[dict[str, Any]], *, as_json: bool
) -> None:
    """Rehearse, or apply what was rehearsed; print what it came to."""
    from billing.replay import apply_plan, rehearse  # noqa: PLC0415 - see above

    with working(f"{'Rehearsing' if plan is None else 'Applying'} {len(chosen)} events"):
        result = rehearse(engine, chosen) if plan is None else apply_plan(engine, chosen, plan)
    if as_json:
        print_json(
            {
                "plan": result.digest,
                "outcomes": result.outcomes,
                "transfers": result.transfers,
                "not_replayed": left,
            }
        )
        return
    print_rows(result.outcomes, as_json=False, title="How the events end")
    print_rows(result.transfers, as_json=False, title="Transfers")
    if plan is None:
        print_facts({"plan": result.digest, "to apply it": f"the same with --plan {result.digest}"}, as_json=False)


def _why_not(engine: "Engine", ids: list[int]) -> list[dict[str, Any]]:
    """Why events that were named are not among those that can be replayed."""
    from billing.database import rows, transaction  # noqa: PLC0415

    if not ids:
        return []
    with transaction(engine) as connection:
        states = {
            row["id"]: row["state"]
            for row in rows(connection, "SELECT id, state FROM events WHERE id = ANY(:ids)", ids=ids)
        }
    return [{"id": event_id, "why": _reason(states.get(event_id))} for event_id in ids]


def _reason(state: str | None) -> str:
    if state is None:
        return "there is no such event; calltally events list shows those that there are"
    if state not in set(Ended):
        return f"it is {state}, so it is in line or worked on already"
    return f"it is {state}, and either another option does not fit it, or its body is forgotten by now"


def _put_back(engine: "Engine", chosen: list[int]) -> list[int]:
    """A chunk at a time: many events are no single long transaction, and a person sees how far it is."""
    from billing.replay import replay as put_back_in_line  # noqa: PLC0415

    chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    return [
        event_id for chunk in progress(chunks, "Putting events back") for event_id in put_back_in_line(engine, chunk)
    ]
