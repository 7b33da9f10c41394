"""Wallets and the proof that the books are right."""

from typing import Annotated

import typer

from billing.organizations import look_up_organization
from calltally.cli.database import quick_books
from calltally.cli.output import MOST, Json, Organization, amount, print_facts, print_json, print_rows

wallet = typer.Typer(no_args_is_help=True, help="Wallets: prepaid balances.")
books_verbs = typer.Typer(no_args_is_help=True, help="The books as a whole.")

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="In currency units, for example 25.00.")]
Reason = Annotated[str, typer.Option(help="Why; it stays in the ledger.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(wallet, name="wallet")
    app.add_typer(books_verbs, name="books")


@wallet.command("show")
def show(
    organization: Organization,
    limit: Annotated[int, typer.Option(help="How many of the last movements.", min=1, max=MOST)] = 20,
    as_json: Json = False,
) -> None:
    """Balance, debt and the last movements."""
    with quick_books() as books:
        organization_id = look_up_organization(books.rows, organization)
        balance = books.rows("SELECT * FROM wallet_balances WHERE organization_id = :id", id=organization_id)
        movements = books.rows(
            "SELECT wallet_sequence AS number, event_at, kind, amount_micros, balance_after_micros, currency,"
            " idempotency_key FROM wallet_statement WHERE organization_id = :id"
            " ORDER BY wallet_sequence DESC LIMIT :limit",
            id=organization_id,
            limit=limit,
        )
    if as_json:
        print_json({**balance[0], "movements": movements})
        return
    print_facts(balance[0], as_json=False)
    print_rows(movements, as_json=False, title="Last movements")


@wallet.command("credit")
def credit(
    organization: Organization,
    amount_text: Amount,
    key: Annotated[str, typer.Option(help="Names this credit for ever: the same key credits once.")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Credit a wallet by hand, as an adjustment, and settle what is outstanding with it.

    A key topup:pi_… credits that payment of Stripe's, as its webhook would have.
    """
    with quick_books() as books:
        organization_id = look_up_organization(books.rows, organization)
        answer = books.rows(
            "SELECT * FROM credit_wallet(:id, :amount, :key, :kind, p_reason => :reason)",
            id=organization_id,
            amount=amount(amount_text),
            key=_key(key),
            kind="topup" if key.startswith("topup:") else "adjustment",
            reason=reason,
        )[0]
    print_facts(answer, as_json=as_json)


@wallet.command("debit")
def debit(
    organization: Organization,
    amount_text: Amount,
    key: Annotated[str, typer.Option(help="Names this debit for ever: the same key debits once.")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Take money out of a wallet by hand, as an adjustment; always booked, even past the debt limit."""
    with quick_books() as books:
        organization_id = look_up_organization(books.rows, organization)
        answer = books.rows(
            "SELECT * FROM debit_wallet(:id, :amount, :key, :reason)",
            id=organization_id,
            amount=amount(amount_text),
            key=_key(key),
            reason=reason,
        )[0]
    print_facts(answer, as_json=as_json)


def _key(text: str) -> str:
    """The idempotency key: as it was written if it says what it is about."""
    return text if ":" in text else f"adjustment:{text}"


@books_verbs.command("check")
def check(as_json: Json = False) -> None:
    """Check every invariant of the books; exit code 1 if one does not hold."""
    with quick_books() as books:
        broken = books.rows("SELECT * FROM check_books()")
    if as_json:
        print_json(broken)
    elif broken:
        print_rows(broken, as_json=False, title="Broken invariants (sql/checks/NAME.sql says what each means)")
    else:
        typer.echo("The books are right: every invariant holds.")
    if broken:
        raise typer.Exit(1)
