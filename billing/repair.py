"""Putting the books right: calls that no webhook told us of are recorded, and changed ones corrected.

A night does it batch by batch, so that a run that dies has lost nothing and a repeated one changes nothing. A plan
does the whole in one transaction: billing/plans.py.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine

from billing.database import rows, transaction
from billing.errors import PermanentError
from billing.figures import Recovered
from billing.halves import by_halves
from billing.vapi import EndedCall

BATCH = 2000
"""Calls in one transaction."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A call that the provider changed after it was charged."""

    call_id: str
    organization_id: UUID | None
    difference_micros: int | None
    """What the run has booked for the change; None if the call is not charged yet."""
    problem: str | None = None
    """Why nothing could be booked."""


@dataclass(frozen=True, slots=True)
class LostValue:
    """What calls whose webhook got lost are worth, in one currency, in micros."""

    currency: str
    charged_micros: int
    """What they cost their organizations, paid or owed."""
    at_risk_micros: int
    """What those that are not charged yet would cost."""


@dataclass(frozen=True)
class Repair:
    """What was done, or would be."""

    recorded: Sequence[Recovered]
    corrected: Sequence[Corrected]
    lost: Sequence[LostValue]
    """All calls of the window whose webhook got lost, whichever night found them."""
    transfers: Sequence[Mapping[str, Any]] = ()
    """Of a rehearsal or a plan: every transfer."""

    @property
    def digest(self) -> str:
        """Short, and the same only for the same charges, corrections and transfers."""
        charges = sorted(
            (call.call_id, str(call.organization_id), call.outcome, call.amount_micros) for call in self.recorded
        )
        changes = sorted((call.call_id, call.difference_micros) for call in self.corrected)
        content = msgspec.json.encode((charges, changes, list(self.transfers)), order="deterministic")
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def plan(self) -> dict[str, list[Any]]:
        """All that people want to see of it before it happens, and that finishes it should its process die after."""
        return {
            "calls": list(self.recorded),
            "corrections": list(self.corrected),
            "transfers": list(self.transfers),
        }


def record_calls(engine: Engine, calls: Sequence[EndedCall], run_id: UUID) -> list[Recovered]:
    """Insert calls flagged `reconciled` and charge them, by the function that webhooks go through.

    Safe to repeat: a call that is there already is left alone. One call that is refused does not keep the others from
    being billed.

    Raises:
        TransientError: worth another try.
    """
    with transaction(engine) as connection:
        return record(connection, calls, run_id)


def correct_calls(engine: Engine, calls: Sequence[EndedCall], run_id: UUID) -> list[Corrected]:
    """Book what the provider's changes are worth; a call that has these facts already is left alone.

    Safe to repeat: the answer is what this run has booked, in whichever try.

    Raises:
        TransientError: worth another try.
    """
    with transaction(engine) as connection:
        return correct(connection, calls, run_id)


def value_calls(engine: Engine, lost: Sequence[EndedCall]) -> list[LostValue]:
    """What lost calls are worth, by currency."""
    with transaction(engine) as connection:
        return worth(connection, lost)


def record(connection: Connection, calls: Sequence[EndedCall], run_id: UUID) -> list[Recovered]:
    """`record_calls` within a transaction."""

    def do(some: Sequence[EndedCall]) -> list[Recovered]:
        answers = rows(
            connection,
            "SELECT * FROM record_calls(CAST(:calls AS jsonb), true, :run_id)",
            calls=as_json(some),
            run_id=run_id,
        )
        return [Recovered(**answer) for answer in answers]

    def refused(call: EndedCall, reason: PermanentError) -> list[Recovered]:
        return [Recovered(call.id, None, "refused", None, known=False, problem=str(reason))]

    return by_halves(connection, calls, do, refused)


def correct(connection: Connection, calls: Sequence[EndedCall], run_id: UUID) -> list[Corrected]:
    """`correct_calls` within a transaction."""

    def do(some: Sequence[EndedCall]) -> list[Corrected]:
        answers = rows(
            connection,
            "SELECT * FROM correct_calls(CAST(:calls AS jsonb), :run_id)",
            calls=as_json(some),
            run_id=run_id,
        )
        return [Corrected(**answer) for answer in answers]

    def refused(call: EndedCall, reason: PermanentError) -> list[Corrected]:
        return [Corrected(call.id, None, None, problem=str(reason))]

    return by_halves(connection, calls, do, refused)


def worth(connection: Connection, lost: Sequence[EndedCall]) -> list[LostValue]:
    """`value_calls` within a transaction; what cannot be valued is worth nothing that anybody knows."""

    def do(some: Sequence[EndedCall]) -> list[LostValue]:
        found = rows(connection, "SELECT * FROM value_calls(CAST(:calls AS jsonb))", calls=as_json(some))
        return [LostValue(**row) for row in found]

    sums: dict[str, LostValue] = {}
    for part in by_halves(connection, lost, do, lambda _call, _reason: []):
        sofar = sums.get(part.currency, LostValue(part.currency, 0, 0))
        sums[part.currency] = LostValue(
            part.currency,
            sofar.charged_micros + part.charged_micros,
            sofar.at_risk_micros + part.at_risk_micros,
        )
    return [sums[currency] for currency in sorted(sums)]


def as_json(calls: Sequence[EndedCall]) -> str:
    """As the functions of `sql/` take calls."""
    return msgspec.json.encode(calls).decode()
