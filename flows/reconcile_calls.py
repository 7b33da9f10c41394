"""Compares the books with the provider's own list, and bills the calls that no webhook told us of."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID, uuid4

from prefect import flow
from pydantic import Field

from billing.call_frames import concatenated
from billing.figures import Night
from billing.night import Comparison
from billing.night_windows import listed_parts, night_window, spans
from billing.repair import Repair
from billing.runs import Order
from billing.settings import get_settings
from tasks.alerts import send_night_alert
from tasks.books import (
    apply_plan,
    begin_run,
    compare_calls,
    correct_drift,
    finish_plan,
    read_plan,
    record_missing,
    rehearse_repair,
    value_lost_calls,
    watched_over,
)
from tasks.fan_out import on_all, processes_for, task_runner
from tasks.findings import store_findings
from tasks.open_list import list_opened
from tasks.progress import Progress, progress_shown
from tasks.providers import list_calls, provider_totals
from tasks.publish import draw_chart, publish_artifacts, read_history, write_report
from tasks.runs import name_this_run, scheduled_start

TIMEOUT_SECONDS = 6 * 3600
"""A million calls take minutes, a slow provider hours; until then the next night waits for this one."""


@flow(name="reconcile_calls", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS, task_runner=task_runner())
async def reconcile_calls(
    window_from: datetime | None = None,
    window_to: datetime | None = None,
    dry_run: bool = False,
    organization: str | None = None,
    plan: UUID | None = None,
    look_back_hours: Annotated[int, Field(ge=0, le=336)] = 72,
    kind: Literal["night", "recent", "backfill"] = "night",
) -> str:
    """Bring the books in line with Vapi's list of calls.

    Lists the calls of the window and of the hours before it, proves that the list is complete, compares it with the
    books, bills what no webhook told us of, measures how reliable the webhooks were, and tells Slack if that is below
    the threshold. Running it again changes nothing.

    When it fails: it could not compare, usually because Vapi did not answer or refused the key; the message says
    which. Nothing is half done: run it again for the same window.

    Args:
        window_from: Calls that ended since then. Left empty: 24 hours before the end of the window.
        window_to: Calls that ended before then. Left empty: 15 minutes before the run was scheduled; never later than
            15 minutes ago.
        dry_run: Rehearse only: show what would be billed, keep it as a plan, and book nothing.
        organization: Name or id; only the calls of this organization. Left empty: all.
        plan: Id of a rehearsal: book exactly what it showed, or nothing if the world has moved since. It decides
            window and organization. If a run has booked it and then died, the rest is made up for.
        look_back_hours: Calls created or changed so long before the window are listed as well: some end late, or are
            changed later, and nights may fail.
        kind: What the run counts as; only a night tells Slack how reliable the webhooks were.
    """
    if plan:
        order = await read_plan(plan)
    else:
        now, look_back = datetime.now(UTC), timedelta(hours=look_back_hours)
        window = night_window(window_from, window_to, scheduled_start(), now=now, look_back=look_back)
        order = Order(window, as_of=now, kind=kind, organization=organization, dry_run=dry_run)
    await name_this_run(_title(order))
    run_id = uuid4()
    async with watched_over(run_id), progress_shown(run_id) as progress:
        order = await begin_run(run_id, order)
        if order.applies_run_id and order.is_booked:
            await _finish(run_id, order.applies_run_id, order)
            return str(run_id)
        comparison = await _compare(run_id, order, progress)
        progress.reached("booking")
        if order.dry_run:
            repair = await rehearse_repair(comparison, run_id)
        elif order.applies_run_id:
            repair = await apply_plan(comparison, run_id, order.applies_run_id)
        else:
            recorded = await record_missing(comparison.missing, run_id)
            corrected = await correct_drift(comparison.drifted, run_id)
            repair = Repair(recorded, corrected, await value_lost_calls(comparison.lost))
        progress.reached("publishing")
        night = await store_findings(run_id, order, comparison, repair)
        await _publish(await send_night_alert(night), comparison)
    return str(run_id)


async def _compare(run_id: UUID, order: Order, progress: Progress) -> Comparison:
    parts = listed_parts(order.window, datetime.now(UTC), get_settings().vapi_retention)
    async with list_opened(run_id):
        totals = await provider_totals(parts)
        stretches = spans(order.window, totals)
        progress.expect(stretches)
        processes = await processes_for(len(stretches))
        provider = concatenated(await on_all(list_calls, [(run_id, span, processes) for span in stretches]))
    progress.reached("comparing")
    return (await on_all(compare_calls, [(order, provider, totals, datetime.now(UTC))]))[0]


async def _finish(run_id: UUID, plan_id: UUID, order: Order) -> None:
    """For a plan that is booked already; its report is the rehearsal's."""
    night = await send_night_alert(await finish_plan(run_id, plan_id, order))
    await publish_artifacts(night, await draw_chart(night, await read_history(night.organization_id)))


async def _publish(night: Night, comparison: Comparison) -> None:
    history = await read_history(night.organization_id)
    night = await write_report(comparison.differences, night, history)
    await publish_artifacts(night, await draw_chart(night, history))


def _title(order: Order) -> str:
    if order.applies_run_id:
        return f"carry out plan {order.plan_digest} for {order.window.in_words}"
    verb = "rehearse" if order.dry_run else "backfill" if order.kind == "backfill" else "reconcile"
    return f"{verb} {order.window.in_words}"
