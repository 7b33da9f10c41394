"""How a figure is printed: beside what it is measured against, as a ratio."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

WIDTH = 132  # in a file or a narrow terminal too, a figure stays on one line


@dataclass(frozen=True)
class Figure:
    """One measurement and its yardstick, in the same unit and from the same run."""

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str = "/s"


def show(title: str, figures: Iterable[Figure]) -> None:
    """Print the figures as they come in."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("ours", justify="right")
    table.add_column("limit or peer", justify="right")
    table.add_column("what that is")
    table.add_column("ratio", justify="right")
    for figure in figures:
        ours, peer = (f"{number:,.0f}{figure.unit}" for number in (figure.ours, figure.peer))
        table.add_row(figure.name, ours, peer, figure.peer_name, f"{figure.ours / figure.peer:.2f}")
    Console(width=max(Console().width, WIDTH)).print(table)
