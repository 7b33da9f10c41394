"""Watches the books between the nights, and tells Slack when something is wrong and when it is over."""

import asyncio
from itertools import chain

from prefect import flow

from billing.alerts import Told
from billing.monitoring import run_name
from billing.rules.registry import RULES
from tasks.alerts import send_alerts
from tasks.monitor import enqueue_summaries, look, note, publish_health
from tasks.runs import name_at_first, name_this_run, scheduled_start

TIMEOUT_SECONDS = 10 * 60
"""Looks take seconds, and the next run is due in 15 minutes; one that hangs must not keep it waiting."""


@flow(name="monitor_billing", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def monitor_billing(dry_run: bool = False) -> int:
    """Look at every rule, keep incidents of what fails, tell Slack, and show a table of all rules.

    One message when something goes wrong, one a day while it lasts, one when it is over. On Mondays a summary of the
    week. docs/runbook.md says for each rule what it means and what to do.

    When it fails: a rule could not be looked at, usually because the database was away. The others are noted all the
    same, and the next run looks again.

    Args:
        dry_run: Look only: show the table, and neither note nor tell anything but dead events.
    """
    now = scheduled_start()
    await name_at_first("look at the books")
    told: list[Told] = []
    looks = await asyncio.gather(*(look(rule.name, now) for rule in RULES), return_exceptions=True)
    found = list(chain.from_iterable(conditions for conditions in looks if isinstance(conditions, list)))
    if not dry_run:
        await note(found)
        await enqueue_summaries(now)
        told = await send_alerts()
    table = await publish_health(found, told)
    failing = sum(row["state"] == "FAILING" for row in table)
    await name_this_run(run_name(failing, len(table), told))
    for error in looks:
        if isinstance(error, BaseException):
            raise error
    return failing
