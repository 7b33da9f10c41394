"""When a night is an alarm, and when it is the end of one."""

from datetime import timedelta
from decimal import Decimal

from sqlalchemy import Engine

from billing.alerts import Noted, note_condition
from billing.database import transaction, value
from billing.figures import Night
from billing.night_messages import night_facts
from billing.reconcile import SETTLING

REMIND_AFTER = timedelta(hours=20)
"""Less than a day, so that each bad night in a row is told, however much earlier than the last one it ends."""


def note_night(engine: Engine, night: Night, *, threshold: Decimal, min_calls: int) -> Noted | None:
    """Raise, keep or clear the incident of unreliable webhooks; None if the night says nothing about now.

    That is a rehearsal, a light pass or a backfill, a night of one organization, which somebody started by hand and
    looks at, fewer than `min_calls` ended calls, or a window that ended before another one of enough calls which was
    compared already. A list that is not complete may raise the alarm, but never ends it: the calls that it lacks may
    be the lost ones.
    """
    enough = max(1, min_calls)
    if night.dry_run or night.kind != "night" or night.organization_id or night.reliability.ended < enough:
        return None
    if _is_overtaken(engine, night, enough):
        return None
    failing = night.reliability.is_below(threshold, min_calls)
    if not failing and any(part.held for part in night.completeness):
        return None
    return note_condition(
        engine, "webhook_reliability", failing, night_facts(night, threshold), remind_after=REMIND_AFTER
    )


def _is_overtaken(engine: Engine, night: Night, enough: int) -> bool:
    """Whether a later window was looked at, as far as its calls were settled then, and said something."""
    with transaction(engine) as connection:
        return bool(
            value(
                connection,
                "SELECT EXISTS (SELECT FROM reconciliation_runs AS later WHERE state = 'completed' AND NOT dry_run"
                " AND kind = :kind AND ended_calls >= :enough AND least(window_to, as_of - :settling) > :end"
                " AND organization_id IS NULL)",
                kind=night.kind,
                enough=enough,
                settling=SETTLING,
                end=min(night.window.end, night.as_of - SETTLING),
            )
        )
