"""Stripe's webhooks arrive: those that do not are fetched each hour, but the wallet waits for them so long."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from billing.incident_messages import Words
from billing.rules.rule import Condition, Rule
from billing.settings import Settings

NAME = "undelivered_webhooks"


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """Nothing by itself: the flow `backfill_payments` asks Stripe, and notes what it found."""
    return [Condition(NAME, failing=False, facts={}, measured="asked of Stripe each hour, if it may be asked")]


def facts(events: int, since: datetime) -> dict[str, Any]:
    """Of the condition, as the flow notes it."""
    return {"events": events, "since": f"{since:%Y-%m-%d %H:%M} UTC"}


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    count = facts["events"]
    return Words(
        headline=f"{count} {'event' if count == 1 else 'events'} of Stripe since {facts['since']} came by no webhook",
        all_clear="Stripe's webhooks arrive again",
        next_step=(
            "They are fetched and credited all the same. See at Stripe, Developers, Webhooks, what our endpoint "
            "answers: another address, a redirect, a secret that was changed, an endpoint that is disabled. "
            "`calltally doctor` compares the address."
        ),
    )


RULE = Rule(NAME, look, words, notes_itself=True)
