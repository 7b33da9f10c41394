"""Catches up with the past, day by day, as far back as the provider remembers."""

import logging
from datetime import UTC, datetime

from prefect import flow

from billing.night_windows import days, night_window, still_kept
from billing.settings import get_settings
from flows.reconcile_calls import reconcile_calls
from tasks.books import is_compared
from tasks.progress import one_of
from tasks.runs import name_this_run, scheduled_start, tagged_as_this_run

TIMEOUT_SECONDS = 24 * 3600
"""A night a day of the past, up to months of them; only one that hangs takes longer."""

log = logging.getLogger("billing.backfill")


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
        window_from: Since then. Left empty, or earlier: as long ago as Vapi keeps calls (VAPI_RETENTION_DAYS).
        window_to: Until then. Left empty: 15 minutes before the run was scheduled.
        again: Also the days that were compared already, for instance after a restore.
    """
    now = datetime.now(UTC)
    retention = get_settings().vapi_retention
    asked = night_window(window_from or now - retention, window_to, scheduled_start(), now=now)
    window = still_kept(asked, now, retention)
    if window.start > asked.start:
        log.warning("backfill.skipped from=%s to=%s reason=Vapi keeps no older calls", asked.start, window.start)
    await name_this_run(f"backfill {window.in_words}")
    done, all_days = [], list(days(window.start, window.end))
    for number, (start, end) in enumerate(all_days, start=1):
        if again or not await is_compared(start, end):
            with one_of("day", number, len(all_days)), tagged_as_this_run():
                run = reconcile_calls(window_from=start, window_to=end, look_back_hours=12, kind="backfill")
                done.append(await run)
    return done
