"""Organizations, and which calls are theirs."""

from datetime import datetime
from typing import Annotated

import typer

from billing.errors import InvalidAmount
from billing.organizations import look_up_organization
from calltally.cli.database import quick_books
from calltally.cli.output import Json, Organization, currency_code, email_address, price, print_facts, print_rows, utc

org = typer.Typer(no_args_is_help=True, help="Organizations: the reseller's customers.")
route = typer.Typer(
    no_args_is_help=True, help="Routes: which assistant, squad, workflow, number or messaging service is whose."
)

A_DAY = 86_400
"""Seconds."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(org, name="org")
    app.add_typer(route, name="route")


@org.command("create")
def create(
    name: Annotated[str, typer.Option(help="Unique; commands accept it in place of the id.")],
    email: Annotated[str, typer.Option(help="Where its invoices go.", callback=email_address)],
    currency: Annotated[str, typer.Option(help="ISO code; it never changes.", callback=currency_code)] = "USD",
    debt_limit: Annotated[str, typer.Option(help="How far usage may take it into debt.")] = "5.00",
    price_per_minute: Annotated[str | None, typer.Option(help="Its own price; the default is 0.70 USD.")] = None,
    increment: Annotated[int, typer.Option(help="Billing increment in seconds: 1, 6 or 60.")] = 1,
    minimum: Annotated[int, typer.Option(help="Seconds that each call is billed at least.", min=0, max=A_DAY)] = 0,
    free: Annotated[int, typer.Option(help="Seconds of each call that cost nothing.", min=0, max=A_DAY)] = 0,
    stripe_customer: Annotated[str | None, typer.Option(help="cus_… that pays for it.")] = None,
    as_json: Json = False,
) -> None:
    """Create an organization with an empty wallet."""
    if increment not in {1, 6, 60}:
        raise InvalidAmount(f"--increment {increment}: calls are billed by 1, 6 or 60 seconds")
    if not name.strip():
        raise typer.BadParameter("an organization needs a name", param_hint="--name")
    has_own_price = price_per_minute is not None or (increment, minimum, free) != (1, 0, 0)
    with quick_books() as books:
        organization_id = books.value(
            "SELECT create_organization(:name, :email, :currency, :debt_limit, :customer)",
            name=name,
            email=email,
            currency=currency,
            debt_limit=price(debt_limit),
            customer=stripe_customer,
        )
        if has_own_price:
            books.value(
                "SELECT set_price(:organization_id, :per_minute, :increment, :minimum, :free)",
                organization_id=organization_id,
                per_minute=price(price_per_minute or "0.70"),
                increment=increment,
                minimum=minimum,
                free=free,
            )
    print_facts({"organization_id": organization_id, "name": name}, as_json=as_json)


@org.command("list")
def list_organizations(as_json: Json = False) -> None:
    """Every organization with its balance and what it owes."""
    with quick_books() as books:
        found = books.rows(
            "SELECT id, name, balances.currency, balance_micros, debt_limit_micros, outstanding_micros,"
            " needs_recharge FROM organizations"
            " JOIN wallet_balances AS balances ON balances.organization_id = id ORDER BY name",
        )
    print_rows(found, as_json=as_json, title="Organizations")


@route.command("add")
def add_route(
    organization: Organization,
    assistant: Annotated[str | None, typer.Option(help="Id of a Vapi assistant.")] = None,
    squad: Annotated[str | None, typer.Option(help="Id of a Vapi squad.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Id of a Vapi workflow.")] = None,
    phone_number: Annotated[str | None, typer.Option(help="Id of a Vapi phone number.")] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            help="What a call's metadata says, as org_id=VALUE (or organization_id=, tenant_id=): for calls that"
            " nothing else names. Whoever starts a web call can write it, so route only what your own server sets."
        ),
    ] = None,
    messaging_service: Annotated[str | None, typer.Option(help="SID of a Twilio messaging service (MG…).")] = None,
    sms_number: Annotated[
        str | None, typer.Option(help="Sender of messages as Twilio writes it: +14155550123.")
    ] = None,
    twilio_account: Annotated[
        str | None,
        typer.Option(
            help="SID of a Twilio account (AC…): all else it sends. Its token must be in TWILIO_AUTH_TOKEN."
        ),
    ] = None,
    from_time: Annotated[
        datetime | None,
        typer.Option("--from", help="Since when (UTC). Default: always, or now if the id was routed elsewhere."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whose the calls or messages of something are; charges those that waited for it."""
    given = {"assistant": assistant, "squad": squad, "workflow": workflow, "phone_number": phone_number}
    given |= {"metadata": metadata and _tenant(metadata)}
    given |= {"messaging_service": messaging_service, "sms_number": sms_number, "twilio_account": twilio_account}
    chosen = [(kind, external_id) for kind, external_id in given.items() if external_id]
    if len(chosen) != 1:
        raise InvalidAmount(
            "name exactly one of --assistant, --squad, --workflow, --phone-number, --metadata, --messaging-service,"
            " --sms-number and --twilio-account"
        )
    kind, external_id = chosen[0]
    with quick_books() as books:
        organization_id = look_up_organization(books.rows, organization)
        added = books.rows(
            "SELECT * FROM add_route(:organization_id, :kind, :external_id, :from_time)",
            organization_id=organization_id,
            kind=kind,
            external_id=external_id,
            from_time=utc(from_time),
        )[0]
    print_facts({"organization_id": organization_id, kind: external_id, **added}, as_json=as_json)


def _tenant(text: str) -> str:
    """`key=value`, of a key that is read."""
    from billing.vapi import TENANT_KEYS  # noqa: PLC0415 - only for this option

    key, _, said = text.partition("=")
    if key not in TENANT_KEYS or not said:
        raise InvalidAmount(f"--metadata {text}: write {TENANT_KEYS[0]}=VALUE (read are {', '.join(TENANT_KEYS)})")
    return text
