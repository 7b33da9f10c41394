"""Shares of a stretch of time: when one is surely too low, and which stretch an incident is about."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.figures import Reliability

STRETCH = """
SELECT count(*) > 0 AS is_open, least(:recent, min((facts ->> 'since')::timestamptz)) AS since
FROM incidents WHERE key = :key AND closed_at IS NULL
"""


def stretch(connection: Connection, key: str, recent: datetime) -> tuple[bool, datetime]:
    """Whether the incident of that key is open, and since when to look: since `recent`, or as far as it reaches.

    What it is about does not become well by growing old, so its facts keep their `since` from look to look.
    """
    [found] = rows(connection, STRETCH, key=key, recent=recent)
    return found["is_open"], found["since"]


def surely_below(share: Reliability, threshold: Decimal) -> bool:
    """Whether even the upper end of the 95 % interval is below: one bad case of many is no alarm, one of one is."""
    return share.interval is not None and share.interval[1] < threshold


def in_words(facts: Mapping[str, Any]) -> str:
    """Since when, for people; the facts of an older release do not say."""
    return f"{datetime.fromisoformat(facts['since']):%Y-%m-%d %H:%M} UTC" if "since" in facts else "its beginning"
