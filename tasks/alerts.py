"""Tells Slack. A failure to do so is noted, and never fails the night."""

import asyncio
import logging
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from slack_sdk.http_retry.builtin_handlers import ConnectionErrorRetryHandler, RateLimitErrorRetryHandler
from slack_sdk.webhook import WebhookClient

from billing import alerts, runs
from billing.messages import Night, dead_events_message, slack_message
from billing.process import get_engine
from billing.settings import get_settings

log = logging.getLogger("billing.alerts")


@task(task_run_name="tell Slack", cache_policy=NO_CACHE)
async def send_alert(night: Night) -> str:
    """Tell Slack if the webhooks were not reliable enough, and note what came of it: that note is the answer."""
    threshold = get_settings().reliability_threshold
    if night.dry_run or not night.needs_alert(threshold):
        alert = "not needed"
    else:
        alert = await asyncio.to_thread(_send, slack_message(night, threshold))
    log.info("alert.decided run=%s alert=%r", night.run_id, alert)
    await asyncio.to_thread(runs.note_alert, get_engine(), night.run_id, alert)
    return alert


@task(task_run_name="tell Slack of dead events", cache_policy=NO_CACHE)
async def send_dead_event_alerts() -> int:
    """One message per kind of error and hour, not per event; how many were sent."""
    engine = get_engine()
    sent = 0
    for alert in await asyncio.to_thread(alerts.open_dead_event_alerts, engine):
        outcome = await asyncio.to_thread(_send, dead_events_message(alert.facts))
        await asyncio.to_thread(alerts.note_alert, engine, alert, outcome)
        log.info("alert.decided key=%s alert=%r", alert.key, outcome)
        sent += outcome == "sent"
    return sent


def _send(message: dict[str, Any]) -> str:
    url = get_settings().slack_webhook_url
    if url is None:
        return "could not alert: SLACK_WEBHOOK_URL is not set"
    retries = [RateLimitErrorRetryHandler(max_retry_count=2), ConnectionErrorRetryHandler()]
    client = WebhookClient(url.get_secret_value(), timeout=10, retry_handlers=retries)
    try:
        answer = client.send(**message)
    except Exception as error:  # noqa: BLE001 - whatever happens to an alert, the books are right
        return f"could not alert: {type(error).__name__}"
    if answer.status_code == 200 and answer.body == "ok":  # noqa: PLR2004
        return "sent"
    return f"could not alert: Slack answered {answer.status_code} {answer.body[:80]}"
