"""Catches up with the past, day by day, as far back as the provider remembers."""

from datetime import UTC, datetime

from prefect import flow

from billing.night import days, night_window
from billing.settings import get_settings
from flows.reconcile_calls import reconcile_calls
from tasks.books import is_compared
from tasks.runs import name_this_run, scheduled_start

TIMEOUT_SECONDS = 24 * 3600
"""A night a day of the past, up to months of them; only one that hangs takes longer."""


@flow(name="backfill_calls", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def backfill_calls(
    window_from: datetime | None = None, window_to: datetime | None = None, again: bool = False
) -> list[str]:
    """Reconcile the past, one day after the other, the oldest first, since the provider forgets that first.

    For a new installation, or after a backup was restored. Each day is a run of its own; a day that was compared
    already is skipped, so a backfill that broke off goes on where it was. A day that was not over then, or of which
    calls are held back, is compared again. Slack hears nothing of the past.

    When it fails: as a night does; the days before are done. Run it again with the same window.

    Args:
        window_from: Since then. Left empty: as long ago as Vapi keeps calls (VAPI_RETENTION_DAYS).
        window_to: Until then. Left empty: 15 minutes before the run was scheduled.
        again: Also the days that were compared already, for instance after a restore.
    """
    now = datetime.now(UTC)
    earliest = now - get_settings().vapi_retention
    window = night_window(window_from or earliest, window_to, scheduled_start(), now=now)
    await name_this_run(f"backfill {window.in_words}")
    done = []
    for start, end in days(window.start, window.end):
        if again or not await is_compared(start, end):
            done.append(await reconcile_calls(window_from=start, window_to=end, look_back_hours=12, kind="backfill"))
    return done
