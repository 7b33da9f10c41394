"""`python -m benchmarks [NAME …]`: run all benchmarks, or those named."""

import sys
from importlib import import_module

from benchmarks.table import show

BENCHMARKS = ("books", "webhooks", "floods", "listing", "compare", "night", "sizes", "commands")
"""Modules of this package with a function `figures`; a new one joins here."""


def main() -> None:
    """Print one table per benchmark."""
    names = sys.argv[1:] or BENCHMARKS
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    for name in names:
        show(name, import_module(f"benchmarks.{name}").figures())


main()
