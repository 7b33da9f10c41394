"""Putting the books right: calls that no webhook told us of are recorded, and changed ones corrected.

A night does it batch by batch, so that a run that dies has lost nothing and a repeated one changes nothing. A
rehearsal does the whole in one transaction and takes it back; a plan is carried out in one, or not at all.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from billing.database import rows, transaction
from billing.errors import PermanentError, translate_database_error
from billing.figures import Recovered, Rows
from billing.vapi import EndedCall

BATCH = 2000
"""Calls in one transaction."""


class PlanOutdated(PermanentError):
    """What would happen now is not what the rehearsal showed; nothing was booked."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A call that the provider changed after it was charged."""

    call_id: str
    organization_id: UUID | None
    difference_micros: int | None
    """What the change was worth; None if the call is not charged yet."""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LostValue:
    """What calls whose webhook got lost are worth, in one currency, in micros."""

    currency: str
    charged_micros: int
    """What they cost their organizations, paid or owed."""
    at_risk_micros: int
    """What those that cannot be charged yet would cost at the default price."""


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


def record_calls(engine: Engine, calls: Sequence[EndedCall], run_id: UUID) -> list[Recovered]:
    """Insert calls flagged `reconciled` and charge them, by the function that webhooks go through.

    Safe to repeat: a call that is there already is left alone. One call that is refused does not keep the others from
    being billed.

    Raises:
        TransientError: worth another try.
    """
    with transaction(engine) as connection:
        return _record(connection, calls, run_id)


def correct_calls(engine: Engine, calls: Sequence[EndedCall]) -> list[Corrected]:
    """Book what the provider's changes are worth; a call that has these facts already is left alone.

    Raises:
        TransientError: worth another try.
    """
    with transaction(engine) as connection:
        return _correct(connection, calls)


def value_calls(engine: Engine, lost_ids: Sequence[str]) -> list[LostValue]:
    """What lost calls are worth, by currency."""
    with transaction(engine) as connection:
        return _value(connection, lost_ids)


def rehearse(
    engine: Engine, missing: Sequence[EndedCall], drifted: Sequence[EndedCall], lost_ids: Sequence[str], run_id: UUID
) -> Repair:
    """Do it all and take it back: what would happen."""
    with transaction(engine) as connection:
        repair = _repair(connection, missing, drifted, lost_ids, run_id)
        connection.rollback()
    return repair


def apply_plan(
    engine: Engine,
    missing: Sequence[EndedCall],
    drifted: Sequence[EndedCall],
    lost_ids: Sequence[str],
    run_id: UUID,
    plan_digest: str,
) -> Repair:
    """Do it all, if it comes to exactly what the rehearsal showed.

    Raises:
        PlanOutdated: it does not, since the provider's list or the books have moved; nothing was booked.
    """
    with transaction(engine) as connection:
        repair = _repair(connection, missing, drifted, lost_ids, run_id)
        if repair.digest != plan_digest:
            connection.rollback()
            raise PlanOutdated(
                f"the plan is outdated: Vapi's list or the books have moved since the rehearsal (plan {plan_digest}, "
                f"now {repair.digest} with {len(repair.transfers)} transfers). Nothing was booked. "
                "Rehearse again with --dry-run, and apply that plan"
            )
    return repair


def _repair(
    connection: Connection,
    missing: Sequence[EndedCall],
    drifted: Sequence[EndedCall],
    lost_ids: Sequence[str],
    run_id: UUID,
) -> Repair:
    recorded = [
        call
        for start in range(0, len(missing), BATCH)
        for call in _record(connection, missing[start : start + BATCH], run_id)
    ]
    corrected = [
        call
        for start in range(0, len(drifted), BATCH)
        for call in _correct(connection, drifted[start : start + BATCH])
    ]
    lost = _value(connection, lost_ids)
    # Rows that this transaction wrote bear the time of its beginning; savepoints have other numbers than it has.
    transfers = rows(
        connection,
        "SELECT idempotency_key, kind, name AS organization, transfers.currency,"
        " CASE WHEN to_account = organization_id THEN amount_micros ELSE -amount_micros END AS amount_micros"
        " FROM transfers JOIN organizations ON organizations.id = organization_id"
        " WHERE booked_at = now() ORDER BY idempotency_key",
    )
    return Repair(Rows(recorded), Rows(corrected), lost, Rows(transfers))


def _record(connection: Connection, calls: Sequence[EndedCall], run_id: UUID) -> list[Recovered]:
    """By halves if one is refused, until it is alone with the reason."""
    if not calls:
        return []
    try:
        with connection.begin_nested():
            answers = rows(
                connection,
                "SELECT * FROM record_calls(CAST(:calls AS jsonb), true, :run_id)",
                calls=msgspec.json.encode(calls).decode(),
                run_id=run_id,
            )
        return [Recovered(**answer) for answer in answers]
    except DBAPIError as error:
        refused = translate_database_error(error)
        if not isinstance(refused, PermanentError):
            raise
        if len(calls) == 1:
            return [Recovered(calls[0].id, None, "refused", None, known=False, problem=str(refused))]
    half = len(calls) // 2
    return _record(connection, calls[:half], run_id) + _record(connection, calls[half:], run_id)


def _correct(connection: Connection, calls: Sequence[EndedCall]) -> list[Corrected]:
    """The same way."""
    if not calls:
        return []
    try:
        with connection.begin_nested():
            answers = rows(
                connection,
                "SELECT * FROM correct_calls(CAST(:calls AS jsonb))",
                calls=msgspec.json.encode(calls).decode(),
            )
        return [Corrected(**answer) for answer in answers]
    except DBAPIError as error:
        refused = translate_database_error(error)
        if not isinstance(refused, PermanentError):
            raise
        if len(calls) == 1:
            return [Corrected(calls[0].id, None, None, problem=str(refused))]
    half = len(calls) // 2
    return _correct(connection, calls[:half]) + _correct(connection, calls[half:])


def _value(connection: Connection, lost_ids: Sequence[str]) -> list[LostValue]:
    return [LostValue(**row) for row in rows(connection, "SELECT * FROM value_calls(:ids)", ids=list(lost_ids))]
