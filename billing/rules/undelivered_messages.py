"""Messages arrive, and each that a carrier took is measured: one that is not can't be billed."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.figures import Reliability
from billing.incident_messages import Words
from billing.messages import MAX_REFERENCES, listing, percent, with_interval
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.rules.shares import surely_below
from billing.settings import Settings

NAME = "undelivered_messages"
THRESHOLD = Decimal("0.95")
"""Of an organization's messages; that one in twenty fails for one and the same reason is no bad luck any more."""
FEWEST = 3
"""Numbers that do not exist happen to everybody."""
WINDOW = timedelta(hours=24)
"""A day's campaign as a whole; once it is mended, the day after is quiet."""
UNMEASURED = timedelta(days=2)
"""Twilio is asked every hour at first, and fills segments in at once."""
FORGOTTEN = timedelta(days=30)
"""After which nobody asks any more."""

FAILURES = """
SELECT organization, error_code, messages, ended
FROM (
    SELECT
        coalesce(organizations.name, 'nobody yet') AS organization,
        error_code,
        count(*) FILTER (WHERE status IN ('failed', 'undelivered')) AS messages,
        (sum(count(*)) OVER (PARTITION BY organizations.name))::bigint AS ended
    FROM sms_messages
    LEFT JOIN organizations ON organizations.id = organization_id
    WHERE first_seen_at >= :since AND first_seen_at < :now AND sms_is_final(status)
    GROUP BY organizations.name, error_code
) AS counted
WHERE messages > 0
ORDER BY messages DESC, organization, error_code
"""
LOST = """
SELECT
    count(*) AS messages,
    coalesce((array_agg(sid ORDER BY first_seen_at, sid))[1 : CAST(:examples AS integer)], '{}') AS first_sids
FROM sms_messages
WHERE first_seen_at >= :oldest AND first_seen_at < :youngest
    AND carrier_accepted AND num_segments IS NULL AND sms_price_id IS NULL AND NOT sms_is_settled(sms_messages)
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all organizations and error codes."""
    found = rows(connection, FAILURES, since=now - WINDOW, now=now)
    [lost] = rows(connection, LOST, oldest=now - FORGOTTEN, youngest=now - UNMEASURED, examples=EXAMPLES)
    bad = [group for group in found if group["messages"] >= FEWEST and surely_below(_arrived(group), THRESHOLD)]
    facts = {
        "groups": bad[:EXAMPLES],
        "count": len(bad),
        "failed": sum(group["messages"] for group in bad),
        "unmeasured": lost["messages"],
        "first_sids": lost["first_sids"],
    }
    measured = f"{sum(group['messages'] for group in found)} failed, {lost['messages']} unmeasured"
    return [Condition(NAME, bool(bad) or lost["messages"] > 0, facts, measured)]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    groups, unmeasured = facts["groups"], facts["unmeasured"]
    troubles = [f"{facts['failed']} messages of the last day did not arrive"] if groups else []
    troubles += [f"{unmeasured} cannot be billed, as Twilio told no segments"] if unmeasured else []
    lines = [_line(group) for group in groups[:MAX_REFERENCES]]
    more = facts["count"] - len(lines)
    return Words(
        headline="; ".join(troubles),
        all_clear="Messages arrive and are measured again",
        next_step=(
            "Look up the code at https://www.twilio.com/docs/api/errors; `calltally sms failures` has all by hour, "
            "`calltally sms list --state undelivered` the messages. Not measured: see the runs of `poll_messages`."
        ),
        values={"Alert below": f"{percent(THRESHOLD)} without the same error"},
        paragraphs={
            "Did not arrive": "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])]),
            "Not measured": listing(facts["first_sids"], unmeasured) if unmeasured else "",
        },
    )


def _arrived(group: Mapping[str, Any]) -> Reliability:
    return Reliability(group["ended"] - group["messages"], group["ended"])


def _line(group: Mapping[str, Any]) -> str:
    code = "no error code" if group["error_code"] is None else f"error {group['error_code']}"
    failed = Reliability(group["messages"], group["ended"])
    return f"{group['organization']}, {code}: {failed.by_webhook} of {failed.ended}, {with_interval(failed)}"


RULE = Rule(NAME, look, words)
