"""Asks Stripe for payments whose webhook never arrived, and puts them into the inbox."""

from datetime import datetime

from prefect import flow

from billing.night_windows import days
from billing.stripe_list import payment_window
from tasks.payments import list_payments, store_missed
from tasks.progress import tell_listeners
from tasks.runs import name_this_run, scheduled_start

TIMEOUT_SECONDS = 3 * 3600
"""Thirty days of a busy account are minutes of listing; the next one is due a day later."""


@flow(name="backfill_payments", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def backfill_payments(
    window_from: datetime | None = None, window_to: datetime | None = None, dry_run: bool = False
) -> dict[str, int]:
    """Recover payments, refunds and disputes that no webhook told us of: after a restore or an outage, and every day.

    Lists Stripe's events of the window that move money, day by day, and stores those that the inbox lacks. They are
    applied there like any webhook, so that a payment which is credited already is not credited again.

    When it fails: Stripe did not answer or refuses STRIPE_API_KEY; the message says which. What was found until then
    is stored. Run it again with the same window.

    Args:
        window_from: Events since then, at most 30 days ago. Left empty: the last 7 days.
        window_to: Events before then. Left empty: when the run was scheduled.
        dry_run: Only say how many are missing.
    """
    start, end = payment_window(window_from, window_to, scheduled_start())
    listed = missed = 0
    for day_start, day_end in days(start, end):
        tell_listeners(
            (day_start - start) / (end - start), f"{day_start:%Y-%m-%d}: {missed} of {listed} were missing"
        )
        events = await list_payments(day_start, day_end)
        missed += await store_missed(events, dry_run)
        listed += len(events)
    verb = "would recover" if dry_run else "recover"
    await name_this_run(f"{verb} {missed} of {listed} payment events since {start:%Y-%m-%d %H:%M} UTC")
    return {"listed": listed, "missed": missed}
