"""The notebook runs on what nights leave behind: no cell fails, and each plot shows something."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls

from .stage import Stage, run

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "reconciliation.ipynb"
PLOTS = 7
MARK = re.compile(r'aria-roledescription="(bar|point|circle)"[^>]* d="([^"]+)"')
BAR = re.compile(r"h(-?[\d.e-]+)v(-?[\d.e-]+)")


def committed() -> Any:
    """The notebook as it is in the repository."""
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def executed(folder: Path) -> Any:
    """The notebook with its outputs; in a process of its own, which is how people run it and leaves no sockets."""
    copy = folder / NOTEBOOK.name
    shutil.copy(NOTEBOOK, copy)
    program = "from nbclient.cli import main; main()"
    command = [sys.executable, "-c", program, str(copy), "--inplace", "--timeout=100", "--startup_timeout=100"]
    subprocess.run(command, check=True, cwd=folder)
    return nbformat.read(copy, as_version=4)  # type: ignore[no-untyped-call]


def pictures(notebook: Any) -> list[str]:
    """The SVG of every plot, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data["image/svg+xml"] for output in outputs if "image/svg+xml" in output.get("data", {})]


def words(notebook: Any) -> str:
    """What the cells say in sentences."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {}))


def marks(svg: str) -> int:
    """How many bars, points and circles of a plot can be seen; axes, lines and labels are none."""
    return sum(role != "bar" or _has_area(path) for role, path in MARK.findall(svg))


def _has_area(path: str) -> bool:
    sides = BAR.search(path)
    return sides is not None and all(abs(float(side)) > 0 for side in sides.groups())


def lossy(stage: Stage) -> None:
    """Webhooks of two assistants got lost, calls have no payer, a wallet is empty, and the provider changed calls."""
    other = stage.books.organization("Globex GmbH")
    stage.books.route(other, "asst-other")
    stage.books.credit(other, 3_000_000, "topup:pi_other")
    calls = [
        *stage.place_calls(16),
        *stage.place_calls(8, assistant="asst-other"),
        *stage.place_calls(2, "asst-nobody"),
    ]
    stage.report([*calls[3:16], *calls[18:24]])
    run(process_webhooks)
    for call in calls[8:10]:
        stage.sandbox.vapi.correct_call(call.id, at=stage.day[1], duration_ms=(call.duration_ms or 0) + 60_000)
    run(reconcile_calls)


def healthy(stage: Stage) -> None:
    """Every call told us by webhook."""
    stage.report(stage.place_calls(10))
    run(process_webhooks)
    run(reconcile_calls)


def empty(stage: Stage) -> None:
    """A night, and no call so far."""
    run(reconcile_calls)


def test_notebook_holds_no_outputs() -> None:
    """What is committed is the analysis, not somebody's figures."""
    cells = [cell for cell in committed().cells if cell.cell_type == "code"]

    assert [cell.outputs for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("past", "plots", "sentences"),
    [
        (lossy, PLOTS, ["**7 of 26** ended calls", "Worst assistant: `asst-nobody` with 2 of 2"]),
        (healthy, PLOTS - 3, ["**0 of 10** ended calls", "All 10 ended calls told us by webhook: nothing was lost."]),
        (empty, 0, ["**0 of 0** ended calls", "No call has ended yet.", "No call has been billed yet."]),
    ],
)
def test_notebook_shows_what_the_nights_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, past: Callable[[Stage], None], plots: int, sentences: list[str]
) -> None:
    """Every cell runs as the analyst on a real night's books and files; a plot has marks, or a sentence says why."""
    past(stage)
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd() / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", "")

    notebook = executed(Path.cwd())
    shown = pictures(notebook)
    if folder := os.environ.get("NOTEBOOK_PLOTS"):
        for number, svg in enumerate(shown):
            Path(folder, f"{past.__name__}-{number}.svg").write_text(svg)
    drawn = [svg for svg in shown if marks(svg)]

    assert len(drawn) == plots
    assert len(shown) == max(plots, 1)  # the chart of 30 days says so itself, if there are no calls
    for sentence in [*sentences, "**0** invariants of the books are broken"]:
        assert sentence in words(notebook)
