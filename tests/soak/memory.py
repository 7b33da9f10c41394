"""How much memory each process takes over time, and whether that grows.

A leak is told from noise by what it is made of. Whatever is kept by mistake for each event (an id, a body, a task
run) takes 200 bytes and more; so does whatever is kept for each request, run or log line. Python's allocator and
glibc's, on the other hand, keep what a burst once needed, and move by some megabytes without growing. So only the
second half of a soak is judged, after every kind of disturbance has been there once, and only processes that live
all through it; the least-squares line through their own memory (without files, and without the shared buffers of
Postgres, which fill up to their fixed size) may rise by `NOISE_MB` at most, plus `MB_PER_HOUR`. At 200 events a
second, ten minutes show a leak of 250 bytes an event (15 MB in the 60,000 events of five minutes); a day shows one
of 3 bytes.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

LIMIT_MB = 500.0
NOISE_MB = 15.0
MB_PER_HOUR = 1.0
JUDGED_SHARE = 0.5
WARM_UP_SECONDS = 240.0
"""Not judged in any case; a shorter soak says nothing about growth."""
LEAST_SAMPLES = 5
SECONDS_PER_HOUR = 3600.0
PASSING = frozenset({"night", "guard"})
"""Processes that come and go, or are too small to grow: only their size is judged."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process (or one family)."""

    at_seconds: float
    name: str
    pid: int
    megabytes: float
    """Its proportional share of all memory (PSS)."""
    own_mb: float
    """What it has allocated for itself (anonymous memory)."""


@dataclass(frozen=True, slots=True)
class Life:
    """What the samples of one name say; slope in MB per hour, None if it did not live through the judged part."""

    name: str
    starts: int
    first_mb: float
    last_mb: float
    peak_mb: float
    slope: float | None
    growth_mb: float | None
    """Of the fitted line over the judged part."""
    problems: Sequence[str]


def look(processes: Mapping[str, Sequence[psutil.Process]], at_seconds: float) -> list[Sample]:
    """A sample per name; members of a family are added up, since shared pages count once in all."""
    samples = []
    for name, family in processes.items():
        sizes = []
        for process in family:
            with suppress(psutil.Error):
                sizes.append((process.memory_full_info().pss / 1e6, _own_mb(process)))
        if sizes:
            total, own = (sum(column) for column in zip(*sizes, strict=True))
            samples.append(Sample(at_seconds, name, family[0].pid, total, own))
    return samples


def _own_mb(process: psutil.Process) -> float:
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("RssAnon:"))
    except (OSError, StopIteration):  # not Linux, or gone
        return float(process.memory_full_info().uss) / 1e6
    return int(kilobytes) * 1024 / 1e6


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """The least-squares slope of their own memory in MB per hour; 0 for fewer than two different times."""
    count = len(samples)
    mean_x = sum(sample.at_seconds for sample in samples) / count
    mean_y = sum(sample.own_mb for sample in samples) / count
    spread = sum((sample.at_seconds - mean_x) ** 2 for sample in samples)
    if not spread:
        return 0.0
    joint = sum((sample.at_seconds - mean_x) * (sample.own_mb - mean_y) for sample in samples)
    return joint / spread * SECONDS_PER_HOUR


def lives(samples: Sequence[Sample], end_seconds: float) -> list[Life]:
    """What became of each process between 0 and `end_seconds`."""
    names = sorted({sample.name for sample in samples})
    return [_life(name, [sample for sample in samples if sample.name == name], end_seconds) for name in names]


def _life(name: str, samples: Sequence[Sample], end_seconds: float) -> Life:
    judged_from = max(end_seconds * (1 - JUDGED_SHARE), WARM_UP_SECONDS)
    judged = [sample for sample in samples if sample.at_seconds >= judged_from]
    peak = max(sample.megabytes for sample in samples)
    problems = [f"{name} took {peak:.0f} MB, more than {LIMIT_MB:.0f} MB"] if peak >= LIMIT_MB else []
    slope = growth = None
    if name in PASSING or end_seconds <= judged_from:
        pass
    elif len({sample.pid for sample in judged}) != 1 or len(judged) < LEAST_SAMPLES:
        problems.append(f"{name} did not live through the second half: it died, or was not there")
    else:
        slope = slope_per_hour(judged)
        hours = (judged[-1].at_seconds - judged[0].at_seconds) / SECONDS_PER_HOUR
        growth = slope * hours
        if growth > NOISE_MB + MB_PER_HOUR * hours:
            problems.append(f"{name} grows by {slope:.0f} MB per hour ({growth:.0f} MB in {hours * 60:.0f} minutes)")
    return Life(
        name,
        len({sample.pid for sample in samples}),
        samples[0].megabytes,
        samples[-1].megabytes,
        peak,
        slope,
        growth,
        problems,
    )
