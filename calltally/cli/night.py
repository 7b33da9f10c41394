"""The night, by hand."""

import asyncio
import os
from datetime import datetime
from typing import Annotated, Any

import typer

from billing.database import rows, transaction
from billing.errors import PermanentError
from billing.settings import get_settings
from calltally.cli.database import open_books
from calltally.cli.output import Json, print_facts, utc


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(reconcile)


def reconcile(
    window_from: Annotated[
        datetime | None,
        typer.Option("--from", help="Calls that ended since then (UTC). Default: 24 h before the end."),
    ] = None,
    window_to: Annotated[
        datetime | None, typer.Option("--to", help="Until then (UTC). Default: 15 minutes ago.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show what would be billed, and book nothing.")] = False,
    organization: Annotated[str | None, typer.Option(help="Only the calls of this one, by name or id.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the books with Vapi's list of calls, and bill what no webhook told us of."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_API_URL", get_settings().prefect_api_url or "http://127.0.0.1:4200/api")
    with open_books() as engine:
        os.environ["DATABASE_URL"] = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        get_settings.cache_clear()
        given = {
            "window_from": utc(window_from),
            "window_to": utc(window_to),
            "dry_run": dry_run,
            "organization": organization,
        }
        parameters = {name: content for name, content in given.items() if content is not None}
        run_id = asyncio.run(_run(parameters))
        with transaction(engine) as connection:
            run = rows(
                connection,
                "SELECT id, state, window_from, window_to, dry_run, provider_calls, known_calls, counts, ended_calls,"
                " ended_by_webhook, reliability_ratio::text, recovered_calls, recovered_micros, outstanding_micros,"
                " alert, report_path FROM reconciliation_runs WHERE id = :id",
                id=run_id,
            )[0]
    print_facts(run, as_json=as_json)


async def _run(parameters: dict[str, Any]) -> str:
    """Run the flow in this process, as a run of its deployment; the id of the reconciliation run."""
    from httpx import HTTPError  # noqa: PLC0415 - Prefect takes seconds to import

    from calltally.stack.deployments import install_deployments  # noqa: PLC0415
    from calltally.stack.warm_worker import run_deployed  # noqa: PLC0415
    from flows.reconcile_calls import reconcile_calls  # noqa: PLC0415

    try:
        deployments = await install_deployments()
    except (HTTPError, RuntimeError, OSError) as error:
        raise PermanentError(
            f"no Prefect server answers at {os.environ['PREFECT_API_URL']}: start everything with `calltally up`, "
            "or set PREFECT_API_URL"
        ) from error
    return await run_deployed(reconcile_calls, deployments["reconcile_calls"], parameters, "by hand")
