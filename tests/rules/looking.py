"""What the tests of rules have in common: a look, its message, and events and calls of the past."""

from datetime import UTC, datetime, timedelta
from typing import Any

from billing.alert_messages import write_message
from billing.alerts import Alert
from billing.monitoring import look
from billing.rules.rule import Condition, Rule
from billing.settings import Settings
from calltally.sandbox.slack import refusal
from calltally.sandbox.wire import encode_json
from tests.books import Books

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
"""A Wednesday."""


def looked(books: Books, rule: Rule, now: datetime = NOW, **settings: Any) -> dict[str, Condition]:
    """What the rule finds, by key."""
    return {
        condition.key: condition
        for condition in look(books.engine, rule, Settings(_env_file=None, **settings), now)
    }  # fmt: skip


def written(condition: Condition, kind: Any = "raised") -> str:
    """The message about a condition, which Slack takes, as it is sent."""
    alert = Alert(1, condition.key, kind, condition.severity, condition.facts, since=NOW, until=NOW, times_seen=1)
    message = encode_json(write_message(alert))
    assert refusal(message) is None
    return message.decode()


def all_clear(condition: Condition) -> str:
    """The title of the message that says it is over."""
    return written(condition, "cleared").split(":white_check_mark: ")[1].split('"')[0]


def receive(
    owner: Books, provider: str, count: int, ago: timedelta, state: str = "done", now: datetime = NOW
) -> None:
    """Events that arrived so long ago, and were applied at once unless they are in another state."""
    owner.rows(
        "INSERT INTO events (provider, delivery_key, type, state, reason, received_at, finished_at, claim_token,"
        " claimed_by, lease_until)"
        " SELECT :provider, gen_random_uuid()::text, 't', :state, 'Reason: why', :at,"
        " CASE WHEN :state IN ('done', 'skipped', 'dead') THEN CAST(:at AS timestamptz) END,"
        " token, CASE WHEN token IS NOT NULL THEN 'w' END, CASE WHEN token IS NOT NULL THEN now() END"
        " FROM (SELECT CASE WHEN :state IN ('active', 'delayed') THEN gen_random_uuid() END AS token"
        " FROM generate_series(1, :count)) AS claims RETURNING 1",
        provider=provider,
        state=state,
        count=count,
        at=now - ago,
    )
