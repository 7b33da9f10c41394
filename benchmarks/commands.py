"""What a person waits for: the first output of commands that answer at once, beside Python that does nothing.

Each command runs on a database that is there already, in turns with the yardstick, so that both meet the same
machine. The figure is the median.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.table import Figure
from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres

TURNS = 15
NOTHING = ("-c", "pass")
PEER = "python -c pass"
COMMANDS = (
    ("--help",),
    ("org", "list"),
    ("events", "list"),
    ("sms", "list"),
    ("books", "check"),
    ("status", "--json"),
)


def figures() -> Iterator[Figure]:
    """One for each command."""
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        server.start()
        try:
            server.ensure_database("books")
            url = server.url("books")
            migrate(url)
            for command in COMMANDS:
                ours, peer = in_turns(url, Path(folder), ("-m", "calltally", *command))
                yield Figure(f"first output of calltally {' '.join(command)}", ours, peer, PEER, " ms")
        finally:
            server.stop("immediate")


def in_turns(url: str, folder: Path, command: Sequence[str]) -> tuple[float, float]:
    """Medians in milliseconds: of the command, and of nothing."""
    first_output_ms(url, folder, command)  # compiles what it imports
    pairs = [(first_output_ms(url, folder, command), first_output_ms(url, folder, NOTHING)) for _ in range(TURNS)]
    return median(ours for ours, _ in pairs), median(peer for _, peer in pairs)


def first_output_ms(url: str, folder: Path, arguments: Sequence[str]) -> float:
    """From the start of the process to its first byte, or to its end if it says nothing."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "DATABASE_URL": url},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        process.stdout.read(1)
        seconds = time.perf_counter() - begun
        process.stdout.read()
    return seconds * 1000
