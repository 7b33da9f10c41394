"""Compares the books with the provider's own list, and bills the calls that no webhook told us of."""

import asyncio
from datetime import datetime

from prefect import flow

from billing.night import listings, night_window
from tasks.alerts import send_alert
from tasks.books import begin_run, compare_calls, correct_drift, failure_noted, record_missing
from tasks.findings import publish_artifacts, store_findings, write_report
from tasks.providers import list_calls
from tasks.runs import name_this_run, scheduled_start


@flow(name="reconcile_calls", validate_parameters=True)
async def reconcile_calls(
    window_from: datetime | None = None,
    window_to: datetime | None = None,
    dry_run: bool = False,
    organization: str | None = None,
) -> str:
    """Bring the books in line with Vapi's list of calls.

    Lists the calls of the window and of the 72 hours before it, compares them with ours, bills what no webhook told
    us of, measures how reliable the webhooks were, and tells Slack if that is below the threshold. Running it again
    changes nothing.

    When it fails: it could not compare, usually because Vapi did not answer or refused the key; the message says
    which. Nothing is half done: run it again for the same window.

    Args:
        window_from: Calls that ended since then. Left empty: 24 hours before the end of the window.
        window_to: Calls that ended before then. Left empty: 15 minutes before the run was scheduled.
        dry_run: Rehearse only: show what would be billed, and book nothing.
        organization: Name or id; only the calls of this organization. Left empty: all.
    """
    window = night_window(window_from, window_to, scheduled_start())
    await name_this_run(f"{'rehearse' if dry_run else 'reconcile'} {window.in_words}")
    run_id = await begin_run(window, organization, dry_run=dry_run)
    async with failure_noted(run_id):
        listed = await asyncio.gather(*(list_calls(clock, start, end) for clock, start, end in listings(window)))
        comparison = await compare_calls(run_id, window, listed)
        recovered = await record_missing(comparison.missing, run_id, dry_run=dry_run)
        corrected = await correct_drift(comparison.drifted, dry_run=dry_run)
        report = await write_report(run_id, comparison)
        night = await store_findings(run_id, window, comparison, recovered, corrected, report)
    await publish_artifacts(night)
    await send_alert(night)
    return str(run_id)
