"""The notebook runs on what nights leave behind: no cell fails, and each plot shows something."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from flows.process_webhooks import process_webhooks
from flows.reconcile_calls import reconcile_calls

from .stage import Stage, run

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "reconciliation.ipynb"
PLOTS = 7


def committed() -> Any:
    """The notebook as it is in the repository."""
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


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
    notebook = committed()
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd() / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", "")

    kernels = AsyncKernelManager(transport="ipc")
    NotebookClient(notebook, km=kernels, timeout=50, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    shown = pictures(notebook)
    if folder := os.environ.get("NOTEBOOK_PLOTS"):
        for number, svg in enumerate(shown):
            Path(folder, f"plot-{number}.svg").write_text(svg)

    assert len(shown) == PLOTS
    assert [number for number, svg in enumerate(shown) if 'aria-roledescription="' not in svg] == []
    assert "**7 of 26**" in words(notebook)
    assert "**0** invariants of the books are broken" in words(notebook)
