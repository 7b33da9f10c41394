"""The night, by hand."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from calltally.cli.database import open_books
from calltally.cli.flow_runs import installed_deployments, point_at_prefect
from calltally.cli.output import Json, print_facts, print_rows, utc

SHOWN = 50
"""Rows of each table of a plan; `--json` has all of them."""
FIGURES = (
    "SELECT id, kind, state, window_from, window_to, dry_run, applies_run_id, provider_calls, known_calls, counts,"
    " ended_calls, ended_by_webhook, reliability_ratio::text, reliability_low::text, reliability_high::text,"
    " recovered_calls, recovered_micros, outstanding_micros, money, completeness, cause, alert, report_path,"
    " plan_digest, plan FROM reconciliation_runs WHERE id = ANY(:ids) ORDER BY window_from"
)

Since = Annotated[datetime | None, typer.Option("--from", help="Calls that ended since then (UTC).")]
Until = Annotated[datetime | None, typer.Option("--to", help="Until then (UTC). Default: 15 minutes ago.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(reconcile)
    app.command()(backfill)


def reconcile(
    window_from: Since = None,
    window_to: Until = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be billed, keep it as a plan, and book nothing.")
    ] = False,
    plan: Annotated[
        UUID | None,
        typer.Option("--apply", metavar="PLAN", help="Book exactly what this rehearsal showed, or nothing."),
    ] = None,
    organization: Annotated[str | None, typer.Option(help="Only the calls of this one, by name or id.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the books with Vapi's list of calls, and bill what no webhook told us of.

    Without --from, the 24 hours before --to.
    """
    if plan and (window_from or window_to or dry_run or organization):
        raise typer.BadParameter("a plan has its own window and organization: give --apply alone")
    given = {
        "window_from": utc(window_from),
        "window_to": utc(window_to),
        "dry_run": dry_run,
        "plan": plan,
        "organization": organization,
    }
    if plan is None:
        _validated(given)
    _run("reconcile_calls", given, as_json=as_json)


def backfill(
    window_from: Since = None,
    window_to: Until = None,
    again: Annotated[bool, typer.Option("--again", help="Also days that were compared already.")] = False,
    as_json: Json = False,
) -> None:
    """Reconcile the past, day by day; run again after an interruption, it goes on where it was.

    Without --from, as far back as Vapi keeps calls.
    """
    given = {"window_from": utc(window_from), "window_to": utc(window_to), "again": again}
    _validated(given, kept_only=True)
    _run("backfill_calls", given, as_json=as_json)


def _validated(given: dict[str, Any], *, kept_only: bool = False) -> None:
    """Refuse what the flow would, before there is a run of it; say what is skipped because Vapi has forgotten it."""
    from billing.night_windows import night_window, still_kept  # noqa: PLC0415 - pandas takes a second
    from billing.settings import get_settings  # noqa: PLC0415
    from billing.vapi_client import require_key  # noqa: PLC0415

    settings, now = get_settings(), datetime.now(UTC)
    require_key(settings)
    default = now - settings.vapi_retention if kept_only else None
    asked = night_window(given["window_from"] or default, given["window_to"], now, now=now)
    kept = still_kept(asked, now, settings.vapi_retention)
    if kept_only and given["window_from"] and kept.start > asked.start:
        typer.echo(
            f"Skipped: {asked.start:%Y-%m-%d %H:%M} to {kept.start:%Y-%m-%d %H:%M} UTC, since Vapi keeps calls for "
            f"{settings.vapi_retention.days} days (VAPI_RETENTION_DAYS)",
            err=True,
        )


def _run(deployment: str, given: dict[str, Any], *, as_json: bool) -> None:
    """Run a flow here, as a run of its deployment, and print what the books then say."""
    from billing.database import rows, transaction  # noqa: PLC0415 - the command line itself starts without them
    from billing.settings import get_settings  # noqa: PLC0415

    point_at_prefect(get_settings())
    with open_books() as engine:
        os.environ["DATABASE_URL"] = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        get_settings.cache_clear()
        parameters = {name: content for name, content in given.items() if content is not None}
        with shown_progress(shown=not as_json):
            result = asyncio.run(_deployed(deployment, parameters))
        ids = [result] if isinstance(result, str) else result
        with transaction(engine) as connection:
            runs = rows(connection, FIGURES, ids=[UUID(run_id) for run_id in ids])
            customers = {
                str(row["id"]): row for row in rows(connection, "SELECT id, name, currency FROM organizations")
            }
    for run in runs:
        _name_organizations(run["plan"], customers)
    if as_json:
        print_facts(runs[0], as_json=True) if isinstance(result, str) else print_rows(runs, as_json=True)
        return
    for run in runs:
        _print_run(run)
    if not runs:
        typer.echo("Every day of that window is compared already; --again compares them once more.")


def _print_run(run: dict[str, Any]) -> None:
    plan = run.pop("plan")
    money = run.pop("money")
    completeness = run.pop("completeness")
    print_facts(run, as_json=False)
    print_rows([dict(amount) for amount in money], as_json=False, title="Money")
    parts = [
        {
            "from": part["start"],
            "listed": part["listed"]["calls"],
            "reported": part["reported"] and part["reported"]["calls"],
            "verdict": part["verdict"],
        }
        for part in completeness
    ]
    print_rows(parts, as_json=False, title="Is the list complete?")
    if plan is None:
        return
    _print_plan(plan)
    typer.echo(f"To book exactly this: calltally reconcile --apply {run['id']}")


def _name_organizations(plan: dict[str, Any] | None, customers: dict[str, dict[str, Any]]) -> None:
    """Add name and currency to what a rehearsal has stored; whom nobody is routed to has none."""
    for row in [*plan["calls"], *plan["corrections"]] if plan else []:
        customer = customers.get(row["organization_id"], {})
        row["organization"], row["currency"] = customer.get("name"), customer.get("currency", "USD")


def _print_plan(plan: dict[str, Any]) -> None:
    """Every call with what would become of it, what would be corrected, and the transfers of both."""
    tables = {
        "The calls that it would bill": (
            plan["calls"],
            ("call_id", "organization", "outcome", "amount_micros", "currency", "problem"),
        ),
        "The corrections that it would make": (
            plan["corrections"],
            ("call_id", "organization", "difference_micros", "currency", "problem"),
        ),
        "The transfers that it would book": (
            plan["transfers"],
            ("idempotency_key", "kind", "organization", "currency", "amount_micros"),
        ),
    }
    for title, (found, columns) in tables.items():
        shown = [{column: row.get(column) for column in columns} for row in found[:SHOWN]]
        print_rows(shown, as_json=False, title=title)
        if len(found) > SHOWN:
            typer.echo(f"and {len(found) - SHOWN} more; --json shows all")


@contextmanager
def shown_progress(*, shown: bool) -> Iterator[None]:
    """A bar on the terminal while the block runs."""
    if not shown:
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from tasks.progress import listeners  # noqa: PLC0415 - Prefect takes seconds to import

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def tell(share: float, words: str) -> None:
            bar.update(task, completed=share, description=words)

        listeners.append(tell)
        try:
            yield
        finally:
            listeners.remove(tell)


async def _deployed(name: str, parameters: dict[str, Any]) -> Any:
    """What the flow returns: the id of its reconciliation run, or several."""
    from calltally.stack.warm_worker import TERMINAL, run_deployed  # noqa: PLC0415 - Prefect takes seconds to import
    from flows.backfill_calls import backfill_calls  # noqa: PLC0415
    from flows.reconcile_calls import reconcile_calls  # noqa: PLC0415

    deployments = await installed_deployments()
    work: Coroutine[Any, Any, Any] = (
        run_deployed(reconcile_calls, deployments[name], parameters, "by hand", tags=[TERMINAL])
        if name == "reconcile_calls"
        else run_deployed(backfill_calls, deployments[name], parameters, "by hand", tags=[TERMINAL])
    )
    return await work
