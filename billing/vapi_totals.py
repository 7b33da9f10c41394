"""Vapi's own totals of its calls (`POST /analytics`): proof, or not, that its list was read completely."""

import logging
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from billing.errors import ProviderRefused
from billing.figures import Totals
from billing.money import micros_from_decimal
from billing.provider_json import decode
from billing.vapi_client import VapiClient, stamp

logger = logging.getLogger(__name__)


class _Row(msgspec.Struct, frozen=True):
    """Numbers, or the same in quotes; no cost where there was nothing to add up."""

    calls: Decimal
    cost: Decimal | None = None


class _Result(msgspec.Struct, frozen=True):
    result: list[_Row]


_answer = msgspec.json.Decoder(list[_Result])


async def read_totals(client: VapiClient, start: datetime, end: datetime) -> Totals | None:
    """Number and cost of the calls with `start <= createdAt < end`; None if Vapi does not say.

    Which of its times analytics goes by is not documented; `createdAt` is assumed. Compare with tolerance.

    Raises:
        ProviderRefused: wrong key (401). Any other refusal only means that there are no totals, and is logged.
        RateLimited, ProviderUnavailable: worth another try, later.
    """
    request = {"queries": [_query(start, end)]}
    try:
        return await client.ask(lambda: client.http.build_request("POST", "/analytics", json=request), _totals)
    except ProviderRefused as error:
        if error.facts["status"] == httpx.codes.UNAUTHORIZED:
            raise
        logger.warning("totals.refused reason=%s", error)
        return None


def _query(start: datetime, end: datetime) -> dict[str, Any]:
    return {
        "table": "call",
        "name": "control_totals",
        "timeRange": {"start": stamp(start), "end": stamp(end), "timezone": "UTC"},
        "operations": [
            {"operation": "count", "column": "id", "alias": "calls"},
            {"operation": "sum", "column": "cost", "alias": "cost"},
        ],
    }


def _totals(answer: httpx.Response) -> Totals | None:
    """JSON of another form is not worth another try; what is no JSON at all may be, and is left to the client."""
    try:
        return _sum(decode(_answer, answer.content))
    except msgspec.ValidationError as error:
        logger.warning("totals.unreadable reason=%s", error)
        return None


def _sum(results: list[_Result]) -> Totals:
    rows = [row for result in results for row in result.result]
    calls = sum((row.calls for row in rows), Decimal(0))
    cost = sum((row.cost or Decimal(0) for row in rows), Decimal(0))
    try:
        if len(results) == 1 and calls >= 0 and calls == int(calls):
            return Totals(calls=int(calls), cost_micros=micros_from_decimal(cost))
    except (ValueError, ArithmeticError):
        pass  # no finite numbers
    raise msgspec.ValidationError(f"{len(results)} results with {calls} calls for {cost}")
