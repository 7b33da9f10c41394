"""Tells Slack. Messages wait in Postgres until they are sent; a failure to send one is noted and fails nothing."""

import asyncio
import logging
from dataclasses import replace
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from billing import alerts, night_alerts, runs, slack
from billing.alert_messages import write_message
from billing.alerts import Noted, Told
from billing.figures import Night
from billing.process import get_engine
from billing.settings import get_settings

log = logging.getLogger("billing.alerts")


@task(task_run_name="look for dead events", cache_policy=NO_CACHE)
async def note_dead_events() -> int:
    """Open or close the incidents of dead events; how many messages wait for a sender."""
    return await asyncio.to_thread(alerts.note_dead_events, get_engine())


@task(task_run_name="judge the webhooks' reliability", cache_policy=NO_CACHE)
async def note_night(night: Night) -> Noted | None:
    """Raise, keep or clear the incident of unreliable webhooks; None if the night says nothing about it."""
    settings = get_settings()
    return await asyncio.to_thread(
        night_alerts.note_night,
        get_engine(),
        night,
        threshold=settings.reliability_threshold,
        min_calls=settings.reliability_min_calls,
    )


@task(task_run_name="tell Slack", cache_policy=NO_CACHE)
async def send_alerts() -> list[Told]:
    """Send every message that is due, whoever wrote it; what came of each."""
    settings = get_settings()
    write = partial(write_message, runbook_url=settings.runbook_url)
    return await asyncio.to_thread(slack.send_waiting, get_engine(), settings, write)


async def send_night_alert(night: Night) -> Night:
    """Judge the night, send what waits, and note on the run what came of its message; the night that knows it.

    `sent`, `not needed`, `told already`, `held back …`, `possibly sent: …` or `could not alert: …`. The last one is a
    finding, whatever the reason is: the books are right, so nothing here fails a night.
    """
    try:
        noted = await note_night(night)
        await send_alerts()
        alert = await asyncio.to_thread(alerts.outcome_of, get_engine(), noted)
    except Exception as error:
        log.exception("alert.failed run=%s", night.run_id)
        alert = f"could not alert: {type(error).__name__}"
    try:
        alert = await asyncio.to_thread(runs.note_alert, get_engine(), night.run_id, alert)
    except Exception:
        log.exception("alert.unnoted run=%s outcome=%r", night.run_id, alert)
    night = replace(night, alert=alert)
    return night.with_problem("alert", alert) if alert.startswith("could not alert") else night
