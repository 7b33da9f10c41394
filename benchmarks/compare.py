"""A night's comparison: the provider's list beside the books, from ten thousand to a million calls on each side.

One call in a hundred is missing, one is a phantom, one has drifted, and one in ten is listed twice, as calls are that
were created and updated in the same window. Each size runs in a process of its own, so that its memory can be told.
The yardstick of speed is the straightforward version: one row after the other, looked up in a dictionary.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.table import Figure
from billing.call_frames import INSTANT, KNOWN_COLUMNS, PROVIDER_COLUMNS, ROUTE_COLUMNS, frame
from billing.reconcile import KINDS, SETTLING, Tolerances, count_kinds, find_differences

SIZES = (10_000, 100_000, 1_000_000)
BEARABLE = 20_000
"""Calls that the version row by row is asked to compare."""
LIMIT_SECONDS = 10
LIMIT_MEGABYTES = 1_500
LINEAR = f"at {SIZES[0]:,}; 1 or less: no worse than linear"
HUNDREDTH, TENTH = 100, 10
ASSISTANTS = 200
AS_OF = datetime(2026, 11, 4, 3, tzinfo=UTC)
RETENTION = timedelta(days=14)
TOLERANCES = Tolerances()

Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def lists_of(size: int) -> Frames:
    """The provider's list, our calls, and the routes; made without an object per value, which would take memory."""
    random = np.random.default_rng(1)
    numbers = np.arange(size + size // HUNDREDTH)
    assistants = random.integers(0, ASSISTANTS, len(numbers))
    created = np.datetime64("2026-11-01", "us") + random.integers(0, 86_400_000, len(numbers)) * np.timedelta64(
        2, "ms"
    )
    duration_ms, cost_micros = random.integers(1_000, 300_000, (2, len(numbers)))
    ended = created + duration_ms * np.timedelta64(1000, "us")
    columns = {
        "call_id": _ids(numbers),
        "assistant_id": pd.Categorical.from_codes(assistants, dtype=_category("assistant", ASSISTANTS)),
        "organization_id": pd.Categorical.from_codes(assistants // 4, dtype=_category("org", ASSISTANTS // 4)),
        "duration_ms": pd.array(duration_ms, dtype="Int64"),
        "cost_micros": pd.array(cost_micros, dtype="Int64"),
        "by_webhook": pd.array(np.ones(len(numbers), dtype=bool), dtype="boolean"),
        "status": _constant("ended", len(numbers)),
        "call_type": _constant("inboundPhoneCall", len(numbers)),
        "ended_reason": _constant("customer-ended-call", len(numbers)),
        "squad_id": _constant(None, len(numbers)),
        "phone_number_id": _constant(None, len(numbers)),
        "problem": pa.nulls(len(numbers), pa.string()).to_pandas(types_mapper={pa.string(): pd.StringDtype()}.get),
        **{name: _instants(created) for name in ("created_at", "started_at")},
        **{name: _instants(ended) for name in ("ended_at", "updated_at")},
    }
    listed = random.permutation(np.concatenate([numbers[:size], numbers[: size // TENTH]]))
    provider = pd.DataFrame({name: columns[name].take(listed) for name in PROVIDER_COLUMNS}, copy=False)
    booked = random.permutation(numbers[-size:])
    known = pd.DataFrame({name: columns[name].take(booked) for name in KNOWN_COLUMNS}, copy=False)
    known["duration_ms"] += pd.array(booked % HUNDREDTH == 0, dtype="Int64")
    routes = [
        {"kind": "assistant", "external_id": f"assistant-{number}", "organization_id": f"org-{number // 4}"}
        for number in range(ASSISTANTS)
    ]
    return provider.reset_index(drop=True), known.reset_index(drop=True), frame(routes, ROUTE_COLUMNS)


def _ids(numbers: Any) -> Any:
    """As long as the provider's."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width=12, padding="0")
    texts = pc.binary_join_element_wise("019a0000-0000-7000-8000", digits, "-")
    return texts.to_pandas(types_mapper={pa.string(): pd.StringDtype()}.get).array


def _category(name: str, number: int) -> Any:
    return pd.CategoricalDtype([f"{name}-{place}" for place in range(number)])


def _constant(text: str | None, size: int) -> Any:
    codes = np.full(size, -1 if text is None else 0, dtype=np.int8)
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype([text or "none"]))


def _instants(times: Any) -> Any:
    return pd.Series(times).dt.tz_localize("UTC").astype(INSTANT).array


def compare(frames: Frames) -> dict[str, int]:
    """Ours."""
    provider, known, routes = frames
    return count_kinds(
        find_differences(provider, known, routes, AS_OF, kept_since=AS_OF - RETENTION, tolerances=TOLERANCES)
    )


def compare_row_by_row(frames: Frames) -> dict[str, int]:
    """The same kinds of such lists, as one would write it down first."""
    provider, known, routes = frames
    ours = {row["call_id"]: row for _, row in known.iterrows()}
    payers = {row["external_id"]: row["organization_id"] for _, row in routes.iterrows()}
    latest: dict[str, Any] = {}
    kinds: Counter[str] = Counter()
    for _, row in provider.iterrows():
        if row["call_id"] in latest:
            kinds["duplicate"] += 1
        if row["call_id"] not in latest or row["updated_at"] > latest[row["call_id"]]["updated_at"]:
            latest[row["call_id"]] = row
    for call_id, row in latest.items():
        own, payer = ours.pop(call_id, None), payers.get(row["assistant_id"])
        if own is None:
            is_over = row["status"] == "ended" and row["updated_at"] <= AS_OF - SETTLING
            kinds["missing" if is_over and payer else "open"] += 1
        else:
            is_near = abs(row["cost_micros"] - own["cost_micros"]) <= TOLERANCES.cost_micros
            is_same = row["duration_ms"] == own["duration_ms"] and is_near and payer == own["organization_id"]
            kinds["matched" if is_same else "drift"] += 1
    for own in ours.values():
        kinds["phantom" if own["created_at"] >= AS_OF - RETENTION else "beyond_retention"] += 1
    return {kind: kinds[kind] for kind in KINDS}


def measure(size: int) -> dict[str, float]:
    """Seconds and peak memory of a comparison of so many calls, in a process of its own."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", str(size)],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    measured: dict[str, float] = json.loads(child.stdout)
    return measured


def peak_megabytes() -> float:
    """Of this process since it was started; its parent's, which getrusage would count, is none of it on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return getrusage(RUSAGE_SELF).ru_maxrss / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def figures() -> Iterator[Figure]:
    """Seconds and memory at a million, cost per call from ten thousand on, and the version row by row."""
    measured = {size: measure(size) for size in SIZES}
    yield Figure(
        "compare 1 M x 1 M calls", measured[SIZES[-1]]["seconds"] * 1000, LIMIT_SECONDS * 1000, "limit", " ms"
    )
    nanos = {size: measured[size]["seconds"] / size * 1e9 for size in SIZES}
    for size in SIZES:
        yield Figure(
            f"peak memory at {size:,} x {size:,}", measured[size]["megabytes"], LIMIT_MEGABYTES, "limit", " MB"
        )
        yield Figure("  time per call", nanos[size], nanos[SIZES[0]], LINEAR, " ns")
    frames = lists_of(BEARABLE)
    ours, theirs = _seconds(compare, frames), _seconds(compare_row_by_row, frames)
    rows = 2 * BEARABLE
    yield Figure(f"rows at {BEARABLE:,} x {BEARABLE:,}", rows / ours, rows / theirs, "row by row with a dictionary")


def _seconds(function: Any, frames: Frames) -> float:
    """Of the second time, which finds everything imported; both versions have to find the same."""
    if function(frames) != compare(frames):
        raise AssertionError("the two versions find different kinds")
    start = perf_counter()
    function(frames)
    end = perf_counter()
    return end - start


def main() -> None:
    """`python -m benchmarks.compare SIZE`: one measurement, as JSON."""
    compare(lists_of(1_000))
    frames = lists_of(int(sys.argv[1]))
    start = perf_counter()
    compare(frames)
    print(json.dumps({"seconds": perf_counter() - start, "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main()
