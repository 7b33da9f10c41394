"""Slack's incoming webhook: sends what waits in the outbox, and notes on each message what came of it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import URLError

from slack_sdk.http_retry import HttpResponse, RetryHandler
from slack_sdk.http_retry.builtin_handlers import ConnectionErrorRetryHandler, RateLimitErrorRetryHandler
from slack_sdk.webhook import WebhookClient
from sqlalchemy import Engine

from billing.alerts import Alert, Told, claim_alerts, hold_alerts, note_in_doubt, note_outcome
from billing.settings import Settings

log = logging.getLogger("billing.alerts")

TIMEOUT_SECONDS = 10
RETRIES = 2
"""Per message, whatever the reason: the client counts them together."""
MAX_RETRY_AFTER_SECONDS = 30
"""Whoever is asked to wait longer leaves the message in the outbox instead."""
NOT_CONFIGURED = "could not alert: SLACK_WEBHOOK_URL is not set"

Message = dict[str, Any]


class _RateLimitHandler(RateLimitErrorRetryHandler):
    """Waits as long as Slack asks, within reason."""

    def _can_retry(self, *, response: HttpResponse | None = None, **_unused: object) -> bool:
        if response is None or response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            return False
        asked = next((value[0] for name, value in response.headers.items() if name.lower() == "retry-after"), "1")
        return asked.isdigit() and int(asked) <= MAX_RETRY_AFTER_SECONDS


class _ServerErrorHandler(RetryHandler):
    """Repeats after any 5xx; the client's own handler knows 500 and 503 alone."""

    def _can_retry(self, *, response: HttpResponse | None = None, **_unused: object) -> bool:
        return response is not None and response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of one message."""

    outcome: str
    """`sent`, or why not; of one in doubt, the class of the error."""
    everything: bool = False
    """Whether other messages would fare the same."""
    in_doubt: bool = False
    """Whether Slack took it and gave no answer, so that it may have posted it."""


def post(url: str, message: Message) -> Posted:
    """Send one message; what ends before Slack has it is tried again, what ends later is in doubt."""
    handlers: list[RetryHandler] = [
        _RateLimitHandler(RETRIES),
        _ServerErrorHandler(RETRIES),
        ConnectionErrorRetryHandler(RETRIES, error_types=[URLError]),  # raised while connecting and sending alone
    ]
    client = WebhookClient(url, timeout=TIMEOUT_SECONDS, retry_handlers=handlers)
    try:
        answer = client.send(**message)
    except (TimeoutError, HTTPException, ConnectionError) as error:  # while reading the answer
        return Posted(type(error).__name__, everything=True, in_doubt=True)
    except Exception as error:  # noqa: BLE001 - whatever happens to an alert, the books are right
        return Posted(f"could not alert: {type(error).__name__}", everything=True)
    if answer.status_code == HTTPStatus.OK and answer.body == "ok":
        return Posted("sent")
    return Posted(
        f"could not alert: Slack answered {answer.status_code} {answer.body[:80]}",
        # 400 is about this message; all else about the channel or about Slack.
        everything=answer.status_code != HTTPStatus.BAD_REQUEST,
    )


def send_waiting(
    engine: Engine, settings: Settings, write: Callable[[Alert], Message], now: datetime | None = None
) -> list[Told]:
    """Send what is due, one message after the other; `write` makes blocks of an alert.

    In quiet hours only critical messages go out. Once Slack proves to be away, the others are not tried.
    """
    if settings.slack_webhook_url is None:
        return hold_alerts(engine, NOT_CONFIGURED)
    until = settings.quiet_until(now or datetime.now(UTC))
    told: dict[int, Told] = {}
    while found := claim_alerts(engine, only_critical=until is not None):
        [alert] = found
        posted = _send(settings.slack_webhook_url.get_secret_value(), alert, write)
        told[alert.id] = one = _noted(engine, alert, posted)
        log.info("alert.decided key=%s kind=%s outcome=%r", alert.key, alert.kind, one.outcome)
        if posted.everything:
            reason = one.outcome if one.failed else f"could not alert: {posted.outcome}"
            told |= {other.id: other for other in hold_alerts(engine, reason)}
            break
    if until is not None:
        reason = f"held back until {until:%Y-%m-%d %H:%M} UTC by quiet hours"
        told |= {other.id: other for other in hold_alerts(engine, reason, except_critical=True)}
    return list(told.values())


def _noted(engine: Engine, alert: Alert, posted: Posted) -> Told:
    outcome = posted.outcome
    if posted.in_doubt:
        outcome = note_in_doubt(engine, alert, posted.outcome)
    else:
        note_outcome(engine, alert, outcome, sent=outcome == "sent")
    return Told(alert.id, alert.key, alert.kind, outcome, failed=outcome.startswith("could not"))


def _send(url: str, alert: Alert, write: Callable[[Alert], Message]) -> Posted:
    try:
        message: Mapping[str, Any] = write(alert)
    except Exception as error:  # one message that we cannot write keeps no other from being sent
        log.exception("alert.unwritable key=%s", alert.key)
        return Posted(f"could not alert: {type(error).__name__} while writing it")
    return post(url, dict(message))
