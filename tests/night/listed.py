"""Calls as the provider lists them and as the books know them, for comparisons."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from billing.reconcile import find_differences, known_frame, provider_frame
from billing.vapi import ListedCall

CREATED = datetime(2026, 11, 3, 12, tzinfo=UTC)
AS_OF = datetime(2026, 11, 4, 3, tzinfo=UTC)


def listed(
    call_id: str = "call",
    seconds: float | None = 60,
    *,
    cost: str | None = "0.10",
    status: str = "ended",
    created_at: datetime = CREATED,
    updated_at: datetime | None = None,
    **fields: Any,
) -> ListedCall:
    """A row of Vapi's list; without seconds the call never connected."""
    started_at = None if seconds is None else created_at + timedelta(seconds=5)
    ended_at = None if started_at is None or seconds is None else started_at + timedelta(seconds=seconds)
    return ListedCall(
        id=call_id,
        created_at=created_at,
        updated_at=updated_at or (ended_at or created_at) + timedelta(seconds=6),
        status=status,
        started_at=started_at,
        ended_at=ended_at if status == "ended" else None,
        cost=None if cost is None else Decimal(cost),
        **fields,
    )


def known(
    call_id: str = "call",
    seconds: float = 60,
    *,
    cost_micros: int | None = 100_000,
    created_at: datetime = CREATED,
    by_webhook: bool = True,
) -> dict[str, Any]:
    """A call as the books give it to the night."""
    return {
        "call_id": call_id,
        "organization_id": None,
        "created_at": created_at,
        "duration_ms": round(seconds * 1000),
        "cost_micros": cost_micros,
        "by_webhook": by_webhook,
    }


def differences(theirs: list[ListedCall], ours: list[dict[str, Any]]) -> pd.DataFrame:
    """What the comparison of both lists finds."""
    return find_differences(provider_frame(theirs), known_frame(ours), AS_OF)


def kinds(theirs: list[ListedCall], ours: list[dict[str, Any]]) -> dict[str, str]:
    """The kind of each call."""
    found = differences(theirs, ours)
    return dict(zip(found["call_id"], found["kind"], strict=True))
