"""Payments, by hand: what Stripe knows and no webhook told us, and whose a payment is."""

import asyncio
import os
from datetime import datetime
from typing import Annotated, Any

import typer

from billing.organizations import look_up_organization
from calltally.cli.database import open_books, quick_books
from calltally.cli.flow_runs import installed_deployments, point_at_prefect
from calltally.cli.night import shown_progress
from calltally.cli.output import Json, Organization, print_facts, utc
from calltally.cli.reversals import reverse

payments = typer.Typer(
    no_args_is_help=True,
    help="Payments: those that no webhook told us of, whose they are, and what was taken back of them.",
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    payments.command("reverse")(reverse)
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
    from billing.stripe_list import secret_key  # noqa: PLC0415

    point_at_prefect(get_settings())
    given = {"window_from": utc(window_from), "window_to": utc(window_to), "dry_run": dry_run}
    parameters = {name: content for name, content in given.items() if content is not None}
    with open_books() as engine:
        secret_key(get_settings())
        os.environ["DATABASE_URL"] = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        get_settings.cache_clear()
        with shown_progress(shown=not as_json):
            found = asyncio.run(_deployed(parameters))
    print_facts(found, as_json=as_json)


@payments.command("assign")
def assign(
    payment_id: Annotated[str, typer.Argument(metavar="PI", help="The payment intent, pi_….")],
    organization: Organization,
    reason: Annotated[str, typer.Option(help="How you know whose it is; it stays in the books.")],
    as_json: Json = False,
) -> None:
    """Say whose a payment is that does not say it, or says it twice; its parked events go on and credit it.

    What is credited is what Stripe says was sold, net of tax. Nothing is credited twice.
    """
    with quick_books() as books:
        organization_id = look_up_organization(books.rows, organization)
        woken = books.rows(
            "SELECT assign_payment(:payment, :id, :reason) AS woken_events",
            payment=payment_id,
            id=organization_id,
            reason=reason,
        )[0]
    print_facts({"payment_id": payment_id, "organization_id": organization_id, **woken}, as_json=as_json)


async def _deployed(parameters: dict[str, Any]) -> dict[str, int]:
    from calltally.stack.warm_worker import run_deployed  # noqa: PLC0415 - Prefect takes seconds to import
    from flows.backfill_payments import backfill_payments  # noqa: PLC0415

    deployments = await installed_deployments()
    return await run_deployed(backfill_payments, deployments["backfill_payments"], parameters, "by hand")
