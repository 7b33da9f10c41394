"""Asks Stripe for payments whose webhook never arrived, and puts them into the inbox."""

from datetime import datetime, timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from billing.night_windows import days
from billing.settings import get_settings
from billing.stripe_list import payment_window, undelivered
from tasks.alerts import send_alerts
from tasks.payments import list_payments, note_undelivered, store_missed
from tasks.progress import tell_listeners
from tasks.runs import name_this_run, scheduled_start

TIMEOUT_SECONDS = 3 * 3600
"""Thirty days of a busy account are minutes of listing; the hourly ones wait for it."""


@flow(name="backfill_payments", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def backfill_payments(
    window_from: datetime | None = None,
    window_to: datetime | None = None,
    dry_run: bool = False,
    look_back_hours: Annotated[int, Field(ge=1, le=720)] = 168,
) -> dict[str, int]:
    """Recover payments, refunds and disputes that no webhook told us of: after an outage, and every hour.

    Lists Stripe's events of the window that move money, day by day, and stores those that the inbox lacks. They are
    applied there like any webhook, so that a payment which is credited already is not credited again.

    A run without a window also tells Slack when webhooks do not arrive, and when they do again. Without
    STRIPE_API_KEY there is nobody to ask, and such a run says so.

    When it fails: Stripe did not answer or refuses STRIPE_API_KEY; the message says which. What was found until then
    is stored. Run it again with the same window.

    Args:
        window_from: Events since then, at most 30 days ago. Left empty: so many hours back as the last field says.
        window_to: Events before then. Left empty: when the run was scheduled.
        dry_run: Only say how many are missing.
        look_back_hours: How far a run without a window looks back: a week, as Stripe tries webhooks for 3 days.
    """
    is_regular = window_from is None and window_to is None and not dry_run
    if is_regular and get_settings().stripe_api_key is None:
        await name_this_run("nobody was asked: STRIPE_API_KEY is not set")
        return {"listed": 0, "missed": 0}
    now = scheduled_start()
    start, end = payment_window(window_from, window_to, now, timedelta(hours=look_back_hours))
    listed = missed = overdue = 0
    for day_start, day_end in days(start, end):
        tell_listeners(
            (day_start - start) / (end - start), f"{day_start:%Y-%m-%d}: {missed} of {listed} were missing"
        )
        events = await list_payments(day_start, day_end)
        missing = await store_missed(events, dry_run)
        listed, missed, overdue = listed + len(events), missed + len(missing), overdue + undelivered(missing, now)
    if is_regular:
        await note_undelivered(overdue, start)
        await send_alerts()
    verb = "would recover" if dry_run else "recover"
    await name_this_run(f"{verb} {missed} of {listed} payment events since {start:%Y-%m-%d %H:%M} UTC")
    return {"listed": listed, "missed": missed}
