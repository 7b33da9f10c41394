"""Text messages: what became of them, and what a segment costs."""

import asyncio
import os
from datetime import datetime
from typing import Annotated

import typer

from billing.errors import InvalidAmount
from billing.organizations import look_up_organization
from calltally.cli.database import open_books, quick_books
from calltally.cli.flow_runs import installed_deployments, point_at_prefect
from calltally.cli.output import MOST, Json, currency_code, price, print_facts, print_rows, utc

sms = typer.Typer(no_args_is_help=True, help="Text messages: delivered or not, charged or not, and their price.")

OfOrganization = Annotated[str | None, typer.Option("--organization", metavar="ORG", help="Only of this one.")]

TEN_YEARS = 10 * 365 * 24
"""Hours."""


def register(app: typer.Typer) -> None:
    """Add `calltally sms`."""
    app.add_typer(sms, name="sms")


@sms.command("list")
def list_messages(
    state: Annotated[str | None, typer.Option(help="For example failed, undelivered or delivered.")] = None,
    organization: OfOrganization = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=MOST)] = 50,
    as_json: Json = False,
) -> None:
    """The newest messages, with error code, segments, Twilio's price and what they were charged."""
    with quick_books() as books:
        if state is not None and books.value("SELECT sms_rank(:state)", state=state) is None:
            raise InvalidAmount(f"no message is ever {state!r}: for example failed, undelivered, sent, delivered")
        found = books.rows(
            "SELECT sid, name AS organization, status, error_code, num_segments, sent_at, status_at, gone_at,"
            " provider_price_micros, charges.amount_micros AS charged_micros, charges.state AS charge,"
            " coalesce(organizations.currency, provider_currency) AS currency"
            " FROM sms_messages LEFT JOIN organizations ON organizations.id = organization_id"
            " LEFT JOIN charges ON charges.idempotency_key = 'sms:' || sid"
            " WHERE (CAST(:state AS text) IS NULL OR status = :state)"
            " AND (CAST(:organization AS uuid) IS NULL OR sms_messages.organization_id = :organization)"
            " ORDER BY first_seen_at DESC, sid LIMIT :limit",
            state=state,
            organization=None if organization is None else look_up_organization(books.rows, organization),
            limit=limit,
        )
    print_rows(found, as_json=as_json, title="Messages")


@sms.command("failures")
def failures(
    hours: Annotated[int, typer.Option(help="Of the last so many hours.", min=1, max=TEN_YEARS)] = 24,
    as_json: Json = False,
) -> None:
    """Messages that did not arrive, by hour and error code (https://www.twilio.com/docs/api/errors)."""
    with quick_books() as books:
        found = books.rows(
            "SELECT hour, name AS organization, status, error_code, messages, ended_messages FROM sms_failures"
            " LEFT JOIN organizations ON organizations.id = organization_id"
            " WHERE hour > now() - make_interval(hours => :hours)"
            " ORDER BY hour DESC, messages DESC, status, error_code",
            hours=hours,
        )
    print_rows(found, as_json=as_json, title="Messages that did not arrive")


@sms.command("price")
def set_price(
    per_segment: Annotated[str, typer.Argument(metavar="AMOUNT", help="In currency units, for example 0.0200.")],
    organization: Annotated[
        str | None, typer.Option(metavar="ORG", help="Default: everybody without a price of their own.")
    ] = None,
    currency: Annotated[str, typer.Option(help="Of a price for all.", callback=currency_code)] = "USD",
    from_time: Annotated[
        datetime | None,
        typer.Option("--from", help="Since when (UTC); messages sent since then without a price are charged now."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set what a segment of a message costs from a time on (default: now); until there is a price, nothing."""
    with quick_books() as books:
        organization_id = None if organization is None else look_up_organization(books.rows, organization)
        price_id = books.value(
            "SELECT set_sms_price(:organization_id, :per_segment, :from_time, :currency)",
            organization_id=organization_id,
            per_segment=price(per_segment),
            from_time=utc(from_time),
            currency=currency,
        )
    print_facts(
        {"price_id": price_id, "organization_id": organization_id, "per_segment_micros": price(per_segment)},
        as_json=as_json,
    )


@sms.command("backfill")
def backfill(
    days: Annotated[int, typer.Option(min=1, max=400, help="So many days of Twilio's list, today's among them.")] = 8,
    as_json: Json = False,
) -> None:
    """Record and charge the messages that Twilio knows and no callback told us of; how many came to which outcome."""
    from billing.settings import get_settings  # noqa: PLC0415 - the command line itself starts without them

    point_at_prefect(get_settings())
    with open_books() as engine:
        os.environ["DATABASE_URL"] = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        get_settings.cache_clear()
        found = asyncio.run(_deployed(days))
    print_facts(found, as_json=as_json)


async def _deployed(days: int) -> dict[str, int]:
    from calltally.stack.warm_worker import run_deployed  # noqa: PLC0415 - Prefect takes seconds to import
    from flows.poll_messages import poll_messages  # noqa: PLC0415

    deployments = await installed_deployments()
    return await run_deployed(poll_messages, deployments["poll_messages"], {"list_days": days}, "by hand")
