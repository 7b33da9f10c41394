"""`POST /analytics`: sums over calls without listing them.

Vapi does not say which timestamp it buckets by; here it is `createdAt`. `duration` is in seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from calltally.sandbox.call_store import Window
from calltally.sandbox.calls import Call
from calltally.sandbox.costs import total_cost
from calltally.sandbox.vapi_query import BadQuery, parse_time_us
from calltally.sandbox.wire import JsonObject, from_ms, iso

_MS_PER_SECOND = 1000
_DEFAULT_RANGE = timedelta(days=7)


CallsIn = Callable[[Window], list[Call]]
"""The calls created in a window."""

_GROUPS: dict[str, Callable[[Call], str | None]] = {
    "assistantId": lambda call: call.route.assistant_id,
    "endedReason": lambda call: call.ended_reason,
    "status": lambda call: call.status,
    "type": lambda call: call.route.call_type,
}
_COLUMNS: dict[str, Callable[[Call], Decimal]] = {
    "id": lambda _: Decimal(1),
    "cost": total_cost,
    "duration": lambda call: Decimal(call.duration_ms or 0) / _MS_PER_SECOND,
}
_OPERATIONS: dict[str, Callable[[list[Decimal]], Decimal | int]] = {
    "count": len,
    "sum": lambda values: sum(values, Decimal(0)),
    "avg": lambda values: sum(values, Decimal(0)) / len(values),
    "min": min,
    "max": max,
}


def answer_analytics(request: Any, calls_in: CallsIn, *, now_ms: int) -> list[JsonObject]:
    """Return one result per query, in the order asked."""
    queries = request.get("queries") if isinstance(request, dict) else None
    if not isinstance(queries, list) or not queries:
        raise BadQuery(["queries should not be empty"])
    return [_answer_query(query, calls_in, now_ms) for query in queries]


def _answer_query(query: Any, calls_in: CallsIn, now_ms: int) -> JsonObject:
    if not isinstance(query, dict) or query.get("table") != "call":
        raise BadQuery(["table must be one of the following values: call"])
    groups: list[str] = query.get("groupBy", [])
    operations: list[JsonObject] = query.get("operations", [])
    _check_names("groupBy", groups, _GROUPS)
    _check_names("operation", [each.get("operation") for each in operations], _OPERATIONS)
    _check_names("column", [each.get("column") for each in operations], _COLUMNS)
    time_range: JsonObject = query.get("timeRange", {})
    window = _window(time_range, now_ms)
    step = time_range.get("step")
    buckets: dict[tuple[str | None, ...], list[Call]] = defaultdict(list)
    calls = calls_in(window)
    if calls and step is None and not groups:
        buckets[(None,)] = calls
        calls = []
    for call in calls:
        date = _bucket_start(call.created_at_ms, step)
        buckets[(date, *(_GROUPS[name](call) for name in groups))].append(call)
    return {
        "name": query.get("name"),
        "timeRange": {
            "start": iso(window.start_ms),
            "end": iso(window.end_ms),
            "step": step,
            "timezone": time_range.get("timezone", "UTC"),
        },
        "result": [
            _result_row(key, groups, operations, buckets[key])
            for key in sorted(buckets, key=lambda key: tuple(part or "" for part in key))
        ],
    }


def _result_row(
    key: tuple[str | None, ...], groups: list[str], operations: list[JsonObject], calls: list[Call]
) -> JsonObject:
    date, *group_values = key
    row: JsonObject = {} if date is None else {"date": date}
    row |= dict(zip(groups, group_values, strict=True))
    for each in operations:
        values = [_COLUMNS[each["column"]](call) for call in calls]
        row[each.get("alias") or _default_alias(each)] = _OPERATIONS[each["operation"]](values)
    return row


def _default_alias(operation: JsonObject) -> str:
    column: str = operation["column"]
    return f"{operation['operation']}{column[0].upper()}{column[1:]}"


def _check_names(what: str, names: list[Any], known: Iterable[str]) -> None:
    allowed = list(known)
    if any(name not in allowed for name in names):
        raise BadQuery([f"{what} must be one of the following values: {', '.join(allowed)}"])


def _window(time_range: JsonObject, now_ms: int) -> Window:
    try:
        end_ms = parse_time_us(time_range["end"]) // 1000 if "end" in time_range else now_ms
        start_ms = end_ms - _DEFAULT_RANGE // timedelta(milliseconds=1)
        if "start" in time_range:
            start_ms = parse_time_us(time_range["start"]) // 1000
    except (TypeError, ValueError) as error:
        raise BadQuery(["timeRange must hold valid ISO 8601 date strings"]) from error
    return Window(start_ms, end_ms)


def _bucket_start(moment_ms: int, step: str | None) -> str | None:
    if step is None:
        return None
    moment = from_ms(moment_ms).replace(microsecond=0, second=0)
    if step == "minute":
        return moment.isoformat()
    moment = moment.replace(minute=0)
    if step == "hour":
        return moment.isoformat()
    day = moment.replace(hour=0)
    starts = {
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "year": day.replace(month=1, day=1),
    }
    if step not in starts:
        raise BadQuery(["timeRange.step must be one of: minute, hour, day, week, month, year"])
    return starts[step].isoformat()
