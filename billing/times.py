"""Moments that people and Prefect give."""

from datetime import UTC, datetime


def in_utc(moment: datetime) -> datetime:
    """A moment in UTC; one without a zone is meant in UTC, wherever this process runs.

    A plain datetime, whatever subclass came in: Prefect's own do arithmetic of another kind.
    """
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromisoformat(known.astimezone(UTC).isoformat())
