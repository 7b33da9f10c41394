"""Notes in the books what refunds and disputes moved, and books it, within a transaction of the caller's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Connection

from billing.database import answers_to, value
from billing.errors import PermanentError
from billing.reversals import Movement, Reversals


def record_reversals(connection: Connection, told: Mapping[int, Reversals]) -> dict[int, tuple[str, str | None]]:
    """Note what events told, by their ids, and book what can be; how each of these is to end, and why.

    Within a transaction of the caller's, which holds the locks of the payments.
    """
    movements = record_movements(connection, [movement for event in told.values() for movement in event.movements])
    compared = answers_to(
        connection,
        "SELECT * FROM compare_refunds(CAST(:facts AS jsonb))",
        [{**asdict(event.charge), "event_id": event_id} for event_id, event in told.items() if event.charge],
    )
    charges = {answer["event_id"]: (answer["outcome"], answer["reason"]) for answer in compared}
    return {
        event_id: _worst(
            [movements[movement.id] for movement in event.movements]
            + ([charges[event_id]] if event_id in charges else [])
        )
        for event_id, event in told.items()
    }


def record_movements(connection: Connection, movements: Sequence[Movement]) -> dict[str, tuple[str, str | None]]:
    """Note movements and book what can be; outcome and reason by id, as `record_movements` in `sql/` answers."""
    noted = answers_to(connection, "SELECT * FROM record_movements(CAST(:facts AS jsonb))", movements)
    return {answer["movement_id"]: (answer["outcome"], answer["reason"]) for answer in noted}


def _worst(parts: list[tuple[str, str | None]]) -> tuple[str, str | None]:
    """How an event ends of which each part came to something: parked if any has to wait."""
    for state in ("parked", "skipped"):
        for outcome, reason in parts:
            if outcome == state:
                return state, reason
    return "done", None


def moved_by_hand(
    connection: Connection,
    payment_id: str,
    name: str,
    amount_micros: int,
    *,
    dispute_id: str | None = None,
    returned: bool = False,
) -> Movement:
    """What a person says that a refund (`re_…`) or dispute moved, in the payment's currency, as Stripe would tell it.

    Raises:
        PermanentError: the payment is not credited, or the names do not say what it is.
    """
    currency = value(connection, "SELECT min(currency) FROM payments WHERE payment_id = :id", id=payment_id)
    if currency is None:
        raise PermanentError(
            f"{payment_id} is not credited: credit it first, with calltally payments backfill, or by hand with"
            f" calltally wallet credit ORG AMOUNT --key topup:{payment_id} --reason …"
        )
    prefix = name.partition("_")[0]
    kind: Literal["refund", "dispute"]
    if prefix in {"re", "pyr"}:
        kind, source_id, steps = "refund", name, ("", ":returned")
    elif prefix in {"dp", "du"}:
        kind, source_id, steps = "dispute", name, (":withdrawn", ":reinstated")
    elif prefix == "txn" and dispute_id:
        kind, source_id, steps = "dispute", dispute_id, ("", "")
    else:
        raise PermanentError(
            f"{name} is neither a refund (re_…, pyr_…) nor a dispute (dp_…, du_…); of a balance transaction (txn_…)"
            " say --dispute, too"
        )
    is_assumed = kind == "dispute" and prefix != "txn"
    return Movement(
        id=f"{name}{steps[returned]}",
        kind=kind,
        source_id=source_id,
        payment_id=payment_id,
        charge_id=None,
        amount_micros=amount_micros if returned else -amount_micros,
        currency=currency,
        event_at=datetime.now(UTC),
        disputed_micros=amount_micros if is_assumed else None,
        disputed_currency=currency if is_assumed else None,
    )
