"""Calls as the provider lists them and as the books know them, for comparisons."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from billing.call_frames import KNOWN_COLUMNS, PROVIDER_COLUMNS, ROUTE_COLUMNS, frame
from billing.reconcile import Tolerances, find_differences
from billing.vapi import ListedCall, UnreadableRow

CREATED = datetime(2026, 11, 3, 12, tzinfo=UTC)
AS_OF = datetime(2026, 11, 4, 3, tzinfo=UTC)
RETENTION = timedelta(days=14)
ACME, GLOBEX = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"


def listed(
    call_id: str = "call",
    seconds: float | None = 60,
    *,
    cost: str | None = "",
    status: str = "ended",
    created_at: datetime = CREATED,
    updated_at: datetime | None = None,
    forgotten: bool = False,
    **fields: Any,
) -> ListedCall:
    """A row of Vapi's list; without seconds the call never connected, and cost nothing.

    `forgotten`: it ended, whatever its status.
    """
    cost = cost if cost != "" else "0" if seconds is None else "0.10"
    started_at = None if seconds is None else created_at + timedelta(seconds=5)
    ended_at = None if started_at is None or seconds is None else started_at + timedelta(seconds=seconds)
    return ListedCall(
        id=call_id,
        created_at=created_at,
        updated_at=updated_at or (ended_at or created_at) + timedelta(seconds=6),
        status=status,
        started_at=started_at,
        ended_at=ended_at if status == "ended" or forgotten else None,
        cost=None if cost is None else Decimal(cost),
        **fields,
    )


def known(
    call_id: str = "call",
    seconds: float | None = 60,
    *,
    cost_micros: int | None = 100_000,
    created_at: datetime = CREATED,
    by_webhook: bool = True,
    organization_id: str | None = ACME,
) -> dict[str, Any]:
    """A call as the books give it to the night; without seconds it never connected."""
    started_at = None if seconds is None else created_at + timedelta(seconds=5)
    return {
        "call_id": call_id,
        "organization_id": organization_id,
        "created_at": created_at,
        "started_at": started_at,
        "ended_at": started_at and started_at + timedelta(seconds=seconds or 0),
        "duration_ms": round((seconds or 0) * 1000),
        "cost_micros": cost_micros,
        "by_webhook": by_webhook,
    }


def route(
    external_id: str = "asst",
    organization_id: str = ACME,
    kind: str = "assistant",
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> dict[str, Any]:
    """Who pays for an assistant, a squad or a phone number; since ever and for ever unless told otherwise."""
    return {
        "kind": kind,
        "external_id": external_id,
        "organization_id": organization_id,
        "valid_from": valid_from,
        "valid_to": valid_to,
    }


def provider_row(row: ListedCall | UnreadableRow) -> dict[str, Any]:
    """A row of the provider's table."""
    if isinstance(row, UnreadableRow):
        return {"call_id": row.call_id, "problem": row.problem}
    facts = row.ended_call()
    return {
        **{name: getattr(row, name) for name in PROVIDER_COLUMNS if hasattr(row, name)},
        "call_id": row.id,
        "call_type": row.type,
        "metadata": facts.metadata,
        "duration_ms": facts.duration_ms if row.is_over else None,
        "cost_micros": facts.provider_cost_micros,
    }


def provider_frame(listed_rows: Sequence[ListedCall | UnreadableRow]) -> pd.DataFrame:
    """The provider's list as a table."""
    return frame([provider_row(row) for row in listed_rows], PROVIDER_COLUMNS)


def known_frame(ours: list[dict[str, Any]]) -> pd.DataFrame:
    """Our calls as a table."""
    return frame(ours, KNOWN_COLUMNS)


def differences(
    theirs: Sequence[ListedCall | UnreadableRow],
    ours: list[dict[str, Any]],
    routes: Sequence[dict[str, Any]] = (route(),),
    organization_id: str | None = None,
) -> pd.DataFrame:
    """What the comparison of both lists finds."""
    return find_differences(
        provider_frame(theirs),
        known_frame(ours),
        frame(list(routes), ROUTE_COLUMNS),
        AS_OF,
        kept_since=AS_OF - RETENTION,
        tolerances=Tolerances(),
        organization_id=organization_id,
    )
