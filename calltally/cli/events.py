"""The inbox: what arrived and what became of it."""

from typing import Annotated

import typer

from billing.database import rows, transaction
from billing.errors import PermanentError
from calltally.cli.database import open_books
from calltally.cli.output import Json, print_facts, print_json, print_rows

events = typer.Typer(no_args_is_help=True, help="Events: webhook deliveries and what became of them.")

State = Annotated[
    str | None, typer.Option(help="waiting, active, delayed, done, skipped, parked or dead.", show_default=False)
]
Type = Annotated[str | None, typer.Option("--type", help="For example end-of-call-report.")]
Provider = Annotated[str | None, typer.Option(help="stripe or vapi.")]

SELECTION = """
FROM events
WHERE (CAST(:state AS text) IS NULL OR state = :state)
    AND (CAST(:type AS text) IS NULL OR type = :type)
    AND (CAST(:provider AS text) IS NULL OR provider = :provider)
"""


@events.command("list")
def list_events(
    state: State = None,
    event_type: Type = None,
    provider: Provider = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """The newest events."""
    with open_books() as engine, transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT id, state, provider, type, received_at, deliveries, attempts, delivery_key, reason"
            f"{SELECTION} ORDER BY id DESC LIMIT :limit",
            state=state,
            type=event_type,
            provider=provider,
            limit=limit,
        )
    print_rows(found, as_json=as_json, title="Events")


@events.command("show")
def show(event_id: Annotated[int, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """One event with its attempts; its body is not shown, since it holds personal data."""
    with open_books() as engine, transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT id, provider, type, delivery_key, state, reason, deliveries, received_at, last_received_at,"
            " attempts, claimed_by, flow_run_id, finished_at, length(body) AS body_bytes FROM events WHERE id = :id",
            id=event_id,
        )
        attempts = rows(
            connection,
            "SELECT attempt, failed_at, error_class, message, flow_run_id FROM event_attempts"
            " WHERE event_id = :id ORDER BY attempt",
            id=event_id,
        )
    if not found:
        raise PermanentError(f"there is no event {event_id}; list them with: calltally events list")
    if as_json:
        print_json({**found[0], "failed_attempts": attempts})
        return
    print_facts(found[0], as_json=False)
    if attempts:
        print_rows(attempts, as_json=False, title="Failed attempts")


@events.command("replay")
def replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    state: State = None,
    event_type: Type = None,
    since: Annotated[str | None, typer.Option(help="Received since then, for example 2026-11-20.")] = None,
    as_json: Json = False,
) -> None:
    """Put ended events back in line; what is booked already stays booked once."""
    if not ids and state is None:
        raise PermanentError("say which events: ids, or --state dead (with --type or --since)")
    with open_books() as engine, transaction(engine) as connection:
        woken = rows(
            connection,
            f"WITH chosen AS (SELECT id {SELECTION} AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(:ids))"
            " AND (CAST(:since AS timestamptz) IS NULL OR received_at >= CAST(:since AS timestamptz)))"
            " SELECT replay_events(array_agg(id)) AS id FROM chosen HAVING count(*) > 0",
            ids=ids or None,
            state=state,
            type=event_type,
            provider=None,
            since=since,
        )
    print_facts({"replayed": len(woken), "ids": [row["id"] for row in woken]}, as_json=as_json)
