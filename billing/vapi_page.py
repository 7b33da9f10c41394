"""One answer of Vapi's list as columns, and columns as the table of a night: nothing of a transcript is ever kept.

A page is decoded at once and checked column by column; only one with something odd in it is read row by row, so that
what is odd becomes a row with a `problem`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from billing.call_frames import INSTANT, PROVIDER_COLUMNS
from billing.money import micros_from_decimal
from billing.provider_json import UNREADABLE, decode
from billing.vapi import LONGEST_ID, MICROSECOND, EndedCall, ListedCall, OddRow, UnreadableRow, read_page

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_INSTANT_US: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
LAST_INSTANT_US: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
COMPACTED_ROWS: Final = 50_000
"""Pages are put together once they have so many rows: repeated texts are then kept once."""

_ARROW_TYPES: Final = {
    "string": pa.string(),
    "category": pa.string(),
    INSTANT: pa.timestamp("us", tz="UTC"),
    "Int64": pa.int64(),
}
SCHEMA: Final = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in PROVIDER_COLUMNS.items()])
_CATEGORIES: Final = [name for name, kind in PROVIDER_COLUMNS.items() if kind == "category"]

_READ: Final[dict[str, Callable[[ListedCall], Any]]] = {
    "call_id": lambda call: call.id,
    "status": lambda call: call.status,
    "assistant_id": lambda call: call.assistant_id,
    "squad_id": lambda call: call.squad_id,
    "workflow_id": lambda call: call.workflow_id,
    "phone_number_id": lambda call: call.phone_number_id,
    "metadata": lambda call: call.tenant,
    "call_type": lambda call: call.type,
    "ended_reason": lambda call: call.ended_reason,
    "created_at": lambda call: call.created_at,
    "updated_at": lambda call: call.updated_at,
    "started_at": lambda call: call.started_at,
    "ended_at": lambda call: call.ended_at,
    "cost_micros": lambda call: None if call.cost is None else micros_from_decimal(call.cost),
    "max_duration_seconds": lambda call: call.max_duration_seconds,
    "problem": lambda _: None,
}
"""Of a row of the list; `duration_ms` is computed of whole columns."""

_page = msgspec.json.Decoder(list[ListedCall])
_TEXTS: Final = {
    "call_id": "id",
    "assistant_id": "assistant_id",
    "squad_id": "squad_id",
    "workflow_id": "workflow_id",
    "phone_number_id": "phone_number_id",
    "metadata": "metadata",
    "call_type": "call_type",
    "ended_reason": "ended_reason",
    "problem": "problem",
}
"""Columns, and what the books call them."""
_OTHERS: Final = ("created_at", "started_at", "ended_at", "provider_cost_micros", "max_duration_seconds")


class _Odd(Exception):
    """Something in the page wants to be looked at row by row."""


def read_columns(body: bytes) -> pa.RecordBatch:
    """The rows of one answer of `GET /call`, a bare array, as columns of `SCHEMA`; readable ones first.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the answer is no JSON array at all.
    """
    try:
        calls = decode(_page, body)
        return _columns(calls)
    except (_Odd, *UNREADABLE):
        rows = read_page(body)
    readable = [row for row in rows if isinstance(row, ListedCall)]
    odd = [row for row in rows if isinstance(row, OddRow)]
    unreadable = [row for row in rows if isinstance(row, UnreadableRow)]
    batches = [
        *_by_halves([(call, None) for call in readable]),
        *_by_halves([(row.call, row.problem) for row in odd]),
    ]
    return pa.concat_batches([*batches, _problems(unreadable)])


def _by_halves(rows: Sequence[tuple[ListedCall, str | None]]) -> list[pa.RecordBatch]:
    """What still cannot be a column, in a way that nobody has thought of, is left alone."""
    if not rows:
        return []
    try:
        columns = _columns([call for call, _ in rows])
    except _Odd:
        if len(rows) == 1:
            return [_problems([UnreadableRow(rows[0][0].id[:LONGEST_ID], "its values cannot be kept")])]
        half = len(rows) // 2
        return _by_halves(rows[:half]) + _by_halves(rows[half:])
    problems = pa.array([problem for _, problem in rows], pa.string())
    return [columns.set_column(SCHEMA.get_field_index("problem"), SCHEMA.field("problem"), problems)]


def _columns(calls: Sequence[ListedCall]) -> pa.RecordBatch:
    """Raises _Odd: for at least one of them `read_page` would name a problem."""
    columns: dict[str, pa.Array] = {}
    try:
        for name, value_of in _READ.items():
            columns[name] = _column([value_of(call) for call in calls], SCHEMA.field(name).type)
    except (ValueError, OverflowError) as error:
        raise _Odd from error  # a cost that is no amount of money, a time that leaves the calendar
    for column in columns.values():
        _require_storable(column)
    if pc.any(pc.equal(columns["call_id"], "")).as_py():
        raise _Odd
    columns["duration_ms"] = _durations(columns)
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_timestamp(kind):
        return pa.array(values, kind)
    # pyarrow takes ten times as long to convert them itself.
    micros = [None if moment is None else (moment - EPOCH) // MICROSECOND for moment in values]
    return pa.array(micros, pa.int64()).cast(kind)


def _require_storable(column: pa.Array) -> None:
    """No NUL in a text, none that is very long, no time outside the calendar: Postgres could not hold them."""
    if pa.types.is_string(column.type):
        texts = column.buffers()[2]
        if (pc.max(pc.utf8_length(column)).as_py() or 0) > LONGEST_ID:
            raise _Odd
        if texts is not None and b"\x00" in memoryview(texts).tobytes():
            raise _Odd
    elif pa.types.is_timestamp(column.type):
        bounds = pc.min_max(column.cast(pa.int64()))
        first, last = bounds["min"].as_py(), bounds["max"].as_py()
        if first is not None and not FIRST_INSTANT_US <= first <= last <= LAST_INSTANT_US:
            raise _Odd


def _durations(columns: dict[str, pa.Array]) -> pa.Array:
    """Milliseconds, halves up, of calls that are over; 0 if start and end are not both there, in this order."""
    is_ended = pc.fill_null(pc.equal(columns["status"], "ended"), fill_value=False)
    ended = pc.or_(is_ended, columns["ended_at"].is_valid())
    lengths = pc.subtract(columns["ended_at"].cast(pa.int64()), columns["started_at"].cast(pa.int64()))
    rounded = pc.divide(pc.add(pc.max_element_wise(lengths, 0, skip_nulls=False), 500), 1000)
    return pc.if_else(ended, pc.fill_null(rounded, 0), pa.scalar(None, pa.int64()))


def _problems(rows: Sequence[UnreadableRow]) -> pa.RecordBatch:
    columns = {name: pa.nulls(len(rows), SCHEMA.field(name).type) for name in SCHEMA.names}
    ids = [None if row.call_id is None else row.call_id.replace("\x00", "") or None for row in rows]
    columns["call_id"] = pa.array(ids, pa.string())
    columns["problem"] = pa.array([row.problem for row in rows], pa.string())
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def created_before(rows: pa.RecordBatch, moment: datetime) -> pa.RecordBatch:
    """Those rows that were, or that do not say when."""
    later = pc.greater_equal(rows.column("created_at"), pa.scalar(moment, SCHEMA.field("created_at").type))
    return rows.filter(pc.invert(pc.fill_null(later, fill_value=False)))


def shown_ms(rows: pa.RecordBatch, column: str) -> int:
    """From the first to the last time in that column; 0 if there is none."""
    bounds = pc.min_max(rows.column(column).cast(pa.int64()))
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    return 0 if first is None else int(last - first) // 1000


class CallColumns:
    """Pages on their way to one provider frame; their number of rows is all that memory grows with."""

    def __init__(self) -> None:
        self._fresh: list[pa.RecordBatch] = []
        self._fresh_rows = 0
        self._compacted: list[pa.Table] = []

    def add(self, page: pa.RecordBatch) -> None:
        """Take the rows of one more page."""
        if page.num_rows:
            self._fresh.append(page)
            self._fresh_rows += page.num_rows
        if self._fresh_rows >= COMPACTED_ROWS:
            self._compact()

    def frame(self) -> pd.DataFrame:
        """All rows, with exactly the types of `PROVIDER_COLUMNS`."""
        self._compact()
        table = pa.concat_tables(self._compacted).unify_dictionaries()
        return pd.DataFrame(
            {name: _series(table.column(name), kind) for name, kind in PROVIDER_COLUMNS.items()}, copy=False
        )

    def _compact(self) -> None:
        table = pa.Table.from_batches(self._fresh, SCHEMA).combine_chunks()
        for name in _CATEGORIES:
            table = table.set_column(table.schema.get_field_index(name), name, table.column(name).dictionary_encode())
        self._compacted.append(table)
        self._fresh, self._fresh_rows = [], 0


def _series(column: pa.ChunkedArray, kind: str) -> "pd.Series[Any]":
    if kind == "category":
        codes = [chunk.indices.fill_null(-1).to_numpy() for chunk in column.chunks]
        names = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
        categories = pd.Index(names, dtype="str")
        joined = np.concatenate(codes) if codes else np.empty(0, np.int32)
        return pd.Series(pd.Categorical.from_codes(joined, categories=categories))
    if kind == INSTANT:
        return pd.Series(column.to_pandas(), dtype=INSTANT)
    dtype: Any = pd.Int64Dtype() if kind == "Int64" else pd.StringDtype("pyarrow")
    return pd.Series(dtype.__from_arrow__(column))


def ended_calls(provider: pd.DataFrame) -> list[EndedCall]:
    """Rows of a provider frame as the books take them, in their order; every one of them readable."""
    texts = [[None if pd.isna(text) else str(text) for text in provider[name]] for name in _TEXTS]
    times = [_instants(provider[name]) for name in ("created_at", "started_at", "ended_at")]
    numbers = [
        [None if pd.isna(number) else int(number) for number in provider[name]]
        for name in ("cost_micros", "max_duration_seconds")
    ]
    return [
        EndedCall(
            **dict(zip(_TEXTS.values(), told[: len(_TEXTS)], strict=True)),
            **dict(zip(_OTHERS, told[len(_TEXTS) :], strict=True)),
        )
        for told in zip(*texts, *times, *numbers, strict=True)
    ]


def _instants(column: "pd.Series[Any]") -> list[Any]:
    """Plain datetimes, exact to the microsecond; None where there is none."""
    absent = column.isna().to_numpy()
    micros = column.to_numpy("datetime64[us]").astype(np.int64)
    return [
        None if missing else EPOCH + timedelta(microseconds=int(number))
        for missing, number in zip(absent, micros, strict=True)
    ]
