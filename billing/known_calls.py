"""What the books know, as tables for a comparison: a million calls in seconds, through COPY and Arrow."""

from collections.abc import Iterable, Mapping, Sequence
from io import RawIOBase
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
from sqlalchemy import Connection, Engine

from billing.call_frames import KNOWN_COLUMNS, ROUTE_COLUMNS, frame
from billing.database import rows, transaction, value
from billing.figures import Window
from billing.halves import by_halves
from billing.routing import PRECEDENCE

INSTANT: Final = pa.timestamp("us", "UTC")
REPEATED: Final = pa.dictionary(pa.int32(), pa.string())
COPIED: Final[Mapping[str, pa.DataType]] = {
    "call_id": pa.string(),
    "organization_id": REPEATED,
    "assistant_id": REPEATED,
    "created_at": pa.int64(),
    "started_at": pa.int64(),
    "ended_at": pa.int64(),
    "duration_ms": pa.int64(),
    "cost_micros": pa.int64(),
    "by_webhook": pa.bool_(),
    "held": REPEATED,
    "assigned": pa.bool_(),
}
BLOCK_BYTES: Final = 4_000_000
FACTS: Final = (
    "SELECT calls.id, calls.organization_id, assistant_id, (extract(epoch FROM created_at) * 1000000)::bigint,"
    " (extract(epoch FROM started_at) * 1000000)::bigint, (extract(epoch FROM ended_at) * 1000000)::bigint,"
    " duration_ms, provider_cost_micros, CASE WHEN coalesce(sight.told, NOT reconciled) THEN 'true' ELSE 'false' END,"
    " held, CASE WHEN calls.id IN (SELECT call_id FROM call_decisions WHERE decision = 'assigned') THEN 'true'"
    " ELSE 'false' END"
    " FROM calls LEFT JOIN first_sights AS sight ON sight.call_id = calls.id"
)
"""In the order of `COPIED`; times in microseconds since 1970, so that no text of a time has to be read."""


def load_known_calls(engine: Engine, window: Window) -> pd.DataFrame:
    """Our calls that the provider's list of this window should show, as a known frame."""
    with transaction(engine) as connection:
        return _copy(
            connection,
            f"{FACTS} WHERE calls.created_at >= %(start)s AND calls.created_at < %(end)s",
            {"start": window.listed_from, "end": window.end},
        )


def load_known_by_id(engine: Engine, call_ids: Sequence[str]) -> pd.DataFrame:
    """Those of the calls that we know, whenever they were created, as a known frame."""
    with transaction(engine) as connection:
        return _copy(connection, f"{FACTS} WHERE calls.id = ANY(%(ids)s::text[])", {"ids": list(call_ids)})


def load_reported(engine: Engine, call_ids: Sequence[str]) -> set[str]:
    """Those of the calls whose report had arrived at first sight, which is now for calls that no night saw before."""
    with transaction(engine) as connection:
        found = rows(
            connection, "SELECT call_id FROM told_at_first_sight(CAST(:ids AS text[])) WHERE told", ids=list(call_ids)
        )
    return {row["call_id"] for row in found}


def keep_first_sights(engine: Engine, call_ids: Sequence[str]) -> None:
    """Keep for good whether the reports of these calls had arrived; what an earlier night kept stays."""

    def keep(some: Sequence[str]) -> list[None]:
        value(
            connection,
            "INSERT INTO first_sights (call_id, told) SELECT call_id, told"
            " FROM told_at_first_sight(CAST(:ids AS text[])) ORDER BY call_id ON CONFLICT DO NOTHING RETURNING 1",
            ids=list(some),
        )
        return []

    with transaction(engine) as connection:
        by_halves(connection, call_ids, keep, lambda _id, _reason: [])  # what cannot be kept will be refused below


def load_routes(engine: Engine) -> pd.DataFrame:
    """Who pays for which calls, as a routes frame."""
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT kind, external_id, organization_id::text,"
            " CASE WHEN lower(valid) > '-infinity' THEN lower(valid) END AS valid_from,"
            " CASE WHEN upper(valid) < 'infinity' THEN upper(valid) END AS valid_to FROM routes"
            " WHERE kind = ANY(:kinds)",
            kinds=list(PRECEDENCE),
        )
    return frame(found, ROUTE_COLUMNS)


def _copy(connection: Connection, query: str, parameters: Mapping[str, Any]) -> pd.DataFrame:
    """The answer of a query that gives `COPIED`: no Python object per value, no more text in memory than a block."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv)", parameters) as copy:
        blocks = _Blocks(copy)
        if not blocks.begin():
            return frame([], KNOWN_COLUMNS)
        reader = arrow_csv.open_csv(
            blocks,
            read_options=arrow_csv.ReadOptions(column_names=list(COPIED), use_threads=False, block_size=BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=COPIED, strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=False
            ),
        )
        table = reader.read_all()
    for name in ("created_at", "started_at", "ended_at"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(INSTANT))
    return as_frame(table, KNOWN_COLUMNS)


class _Blocks(RawIOBase):
    """What COPY sends, as a file."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._left = b""

    def begin(self) -> bool:
        """Whether there is anything at all."""
        self._left = bytes(next(self._blocks, b""))
        return bool(self._left)

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes."""
        parts, length = [self._left], len(self._left)
        while size < 0 or length < size:
            block = next(self._blocks, None)
            if block is None:
                break
            parts.append(bytes(block))
            length += len(block)
        everything = b"".join(parts)
        wanted = len(everything) if size < 0 else size
        self._left = everything[wanted:]
        return everything[:wanted]


def as_frame(table: pa.Table, columns: Mapping[str, str]) -> pd.DataFrame:
    """An Arrow table with exactly these pandas types; its columns are given up one by one, to save memory."""
    types = {
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype("pyarrow"),
    }
    converted: pd.DataFrame = table.unify_dictionaries().to_pandas(
        types_mapper=types.get, split_blocks=True, self_destruct=True
    )
    return converted.astype({name: kind for name, kind in columns.items() if str(converted[name].dtype) != kind})
