"""What became of a payment: what was sold by it, what refunds and disputes moved, and what is booked of all that."""

from typing import Any

from billing.errors import PermanentError
from billing.organizations import Ask

Row = dict[str, Any]

PARTS = ("wallet", "tax", "fee", "excess")


def explain_payment(ask: Ask, name: str) -> Row:
    """The story of a payment by its id (`pi_…`), or by that of a refund, a dispute or a movement of either.

    `payment` (null while it is not credited), `movements` and `transfers`, amounts in micros; `verdict` says whether
    what is booked is what the movements come to.

    Raises:
        PermanentError: nobody knows of it.
    """
    name = name.removeprefix("topup:").removeprefix("refund:").removeprefix("dispute:")
    movements = ask(
        "SELECT id, kind, source_id, payment_id, amount_micros, currency, event_at, booked_at, first_seen_at"
        " FROM movements WHERE payment_id IN (SELECT :name UNION ALL SELECT payment_id FROM movements"
        " WHERE id = :name OR source_id = :name) ORDER BY coalesce(event_at, first_seen_at), id",
        name=name,
    )
    payment_id = movements[0]["payment_id"] if movements else name
    payment = ask(
        "SELECT payments.*, organizations.name AS organization FROM payments"
        " JOIN organizations ON organizations.id = organization_id WHERE payment_id = :id",
        id=payment_id,
    )
    if not payment and not movements:
        raise PermanentError(
            f"nobody knows of {name}: calltally payments backfill fetches what no webhook told, and"
            " calltally events list --state parked shows what waits"
        )
    due = ask("SELECT * FROM payment_reversals WHERE payment_id = :id", id=payment_id)
    mismatches = [
        f"{part}: {due[0][f'{part}_due_micros']} micros are due, {due[0][f'{part}_booked_micros']} booked"
        for part in PARTS
        if due and due[0][f"{part}_due_micros"] != due[0][f"{part}_booked_micros"]
    ]
    return {
        "payment": payment[0] if payment else None,
        "movements": movements,
        "transfers": ask(
            "SELECT transfers.idempotency_key, transfers.kind, givers.kind AS out_of, takers.kind AS into_account,"
            " amount_micros, transfers.currency, booked_at FROM transfers"
            " JOIN accounts AS givers ON givers.id = from_account JOIN accounts AS takers ON takers.id = to_account"
            " WHERE payment_id = :id ORDER BY transfers.id",
            id=payment_id,
        ),
        "verdict": {"matches": not mismatches, "mismatches": mismatches, **(due[0] if due else {})},
    }
