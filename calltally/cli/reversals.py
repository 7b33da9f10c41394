"""Refunds and disputes, by hand: under the same ids as Stripe's events, so that neither books the other's again."""

from typing import Annotated

import typer

from billing.errors import PermanentError
from calltally.cli.database import open_books
from calltally.cli.output import Json, amount, print_facts

AMOUNT_HELP = "What moved at Stripe, tax included, in the payment's currency: 60.00"


def reverse(
    payment: Annotated[str, typer.Argument(metavar="PAYMENT", help="The payment: pi_…")],
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The refund (re_…), or the balance transaction of a dispute (txn_…); of a dispute that has none,"
            " the dispute (dp_… or du_…).",
        ),
    ],
    amount_text: Annotated[str, typer.Argument(metavar="AMOUNT", help=AMOUNT_HELP)],
    dispute: Annotated[str | None, typer.Option(help="The dispute that a txn_… belongs to.")] = None,
    returned: Annotated[
        bool, typer.Option("--returned", help="The money came back: the refund failed, or the dispute gave it back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Book a refund or a movement of a dispute that no webhook brought, or that waits for its exchange rate.

    As Stripe's event would, and known to it: whichever comes second changes nothing. It takes the share that was
    credited, as far as there is any; the rest is the reseller's.
    """
    from billing.database import transaction  # noqa: PLC0415 - the command line itself starts without it
    from billing.taking_back import moved_by_hand, record_movements  # noqa: PLC0415

    micros = amount(amount_text)
    with open_books() as engine, transaction(engine) as connection:
        movement = moved_by_hand(connection, payment, name, micros, dispute_id=dispute, returned=returned)
        outcome, reason = record_movements(connection, [movement])[movement.id]
        if outcome in {"parked", "skipped"}:
            raise PermanentError(f"it cannot be booked yet: {reason}")
    print_facts({"id": movement.id, "outcome": outcome, "reason": reason}, as_json=as_json)
