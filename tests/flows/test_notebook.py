"""The notebook runs on what nights leave behind: no cell fails, and each plot shows something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls

from .stage import Stage, run

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "reconciliation.ipynb"
PLOTS = 7


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


def test_notebook_holds_no_outputs() -> None:
    """What is committed is the analysis, not somebody's figures."""
    cells = [cell for cell in committed().cells if cell.cell_type == "code"]

    assert [cell.outputs for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
def test_notebook_shows_what_the_nights_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs as the analyst on a real night's books and files; every plot has marks."""
    stage.books.route(stage.organization_id, "asst-other")
    calls = [
        *stage.place_calls(16),
        *stage.place_calls(8, assistant="asst-other"),
        *stage.place_calls(2, "asst-nobody"),
    ]
    stage.report([*calls[3:16], *calls[18:24]])
    run(process_webhooks)
    run(reconcile_calls)
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd() / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", "")

    notebook = executed(Path.cwd())
    shown = pictures(notebook)
    if folder := os.environ.get("NOTEBOOK_PLOTS"):
        for number, svg in enumerate(shown):
            Path(folder, f"plot-{number}.svg").write_text(svg)

    assert len(shown) == PLOTS
    assert [number for number, svg in enumerate(shown) if 'aria-roledescription="' not in svg] == []
    assert "**7 of 26**" in words(notebook)
    assert "**0** invariants of the books are broken" in words(notebook)
