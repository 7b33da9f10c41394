"""Every rule that is watched, in the order in which the table shows them."""

from billing.rules import (
    applied_events,
    beyond_payments,
    billed_calls,
    broken_books,
    dead_events,
    held_billing,
    held_calls,
    missing_night,
    outstanding_money,
    parked_events,
    silence,
    undelivered_messages,
    undelivered_webhooks,
    waiting_events,
    wallet_limits,
)
from billing.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    broken_books.RULE,
    waiting_events.RULE,
    dead_events.RULE,
    parked_events.RULE,
    applied_events.RULE,
    billed_calls.RULE,
    missing_night.RULE,
    held_billing.RULE,
    held_calls.RULE,
    silence.RULE,
    wallet_limits.RULE,
    outstanding_money.RULE,
    beyond_payments.RULE,
    undelivered_messages.RULE,
    undelivered_webhooks.RULE,
)
