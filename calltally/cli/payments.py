"""Payments, by hand: what Stripe knows and no webhook told us."""

import asyncio
import os
from datetime import datetime
from typing import Annotated, Any

import typer

from calltally.cli.database import open_books
from calltally.cli.flow_runs import installed_deployments, point_at_prefect
from calltally.cli.night import shown_progress
from calltally.cli.output import Json, print_facts, utc

payments = typer.Typer(no_args_is_help=True, help="Payments: ask Stripe for those that no webhook told us of.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(payments, name="payments")


@payments.command("backfill")
def backfill(
    window_from: Annotated[
        datetime | None, typer.Option("--from", help="Events since then (UTC), at most 30 days ago. Default: 7 days.")
    ] = None,
    window_to: Annotated[datetime | None, typer.Option("--to", help="Until then (UTC). Default: now.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many are missing.")] = False,
    as_json: Json = False,
) -> None:
    """Store the payment events whose webhook never arrived; the worker applies them at once."""
    from billing.settings import get_settings  # noqa: PLC0415 - the command line itself starts without them

    point_at_prefect(get_settings())
    given = {"window_from": utc(window_from), "window_to": utc(window_to), "dry_run": dry_run}
    parameters = {name: content for name, content in given.items() if content is not None}
    with open_books() as engine:
        os.environ["DATABASE_URL"] = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        get_settings.cache_clear()
        with shown_progress(shown=not as_json):
            found = asyncio.run(_deployed(parameters))
    print_facts(found, as_json=as_json)


async def _deployed(parameters: dict[str, Any]) -> dict[str, int]:
    from calltally.stack.warm_worker import run_deployed  # noqa: PLC0415 - Prefect takes seconds to import
    from flows.backfill_payments import backfill_payments  # noqa: PLC0415

    deployments = await installed_deployments()
    return await run_deployed(backfill_payments, deployments["backfill_payments"], parameters, "by hand")
