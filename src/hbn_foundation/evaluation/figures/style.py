"""The style shared by all figures, and elements that several of them draw.

Figures are made without `matplotlib.pyplot`, so that nothing is kept open and worker threads
can draw. Draw inside `styled()`:

>>> with styled():
...     figure, axes = new_figure(columns=2)
...     axes[0].plot([1, 2])
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22303c"
MUTED = "#75818c"
PALE = "#c9d1d8"
GRID = "#e6eaee"
ACCENT = "#1f6fb4"
"""Colour of the evaluated model; baselines are grey."""
WARNING = "#c8443c"
SPLIT_COLOURS = {"train": "#1f6fb4", "validation": "#e0972f", "test": "#3a9a78"}
CYCLE = ["#1f6fb4", "#e0972f", "#3a9a78", "#a65fa8", "#c8443c", "#5d7486", "#b59a3c", "#4fb0c6"]

_RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "savefig.bbox": "tight",
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the project's style inside this block only."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**_RC, "axes.prop_cycle": cycler(color=CYCLE)}
    with mpl.rc_context(settings):
        yield


def new_figure(
    rows: int = 1, columns: int = 1, panel: tuple[float, float] = (3.6, 2.7), **subplots: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a grid of panels of a size (width, height) in inches.

    Further arguments are those of `matplotlib.figure.Figure.subplots`. The axes come as a flat
    list, row by row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.09)  # type: ignore[union-attr,call-arg]
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(np.ravel(axes))


def heading(figure: Figure, title: str, subtitle: str = "") -> None:
    """Write a title and a smaller subtitle above the whole figure."""
    text = f"{title}\n" if subtitle else title
    figure.suptitle(text, x=0.01, ha="left")
    if subtitle:
        figure.text(0.01, 0.985 - 0.24 / figure.get_figheight(), subtitle, fontsize=9, color=MUTED,
                    va="top")  # fmt: skip


def note(axes: Axes, text: str) -> None:
    """Write a sentence in the middle of an otherwise empty panel."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    axes.set_axis_off()


def sideways(axes: Axes) -> None:
    """Show vertical grid lines only, for panels with named rows."""
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")


def corner(axes: Axes, text: str) -> None:
    """Write a short text at the top left of a panel."""
    axes.text(0.04, 0.97, text, transform=axes.transAxes, va="top", fontsize=8)


def stacked(axes: Axes, table: pd.DataFrame, colours: dict[str, str], unit: str) -> None:
    """Draw a horizontal bar per row, in parts by column, with a legend below unit and panel."""
    left = np.zeros(len(table))
    for place, column in enumerate(table):
        colour = colours.get(str(column), CYCLE[place % len(CYCLE)])
        axes.barh(table.index, table[column], left=left, height=0.66, color=colour, label=column)
        left = left + table[column].to_numpy()
    sideways(axes)
    axes.set_xlabel(unit)
    below = -0.25 - 0.14 * unit.count("\n")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=4, handlelength=1)


def shorten(name: str, length: int) -> str:
    """Cut a name to a number of characters."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def whole_numbers(*axis: Any, n: int = 5) -> None:
    """Put at most so many ticks at whole numbers on axes such as `panel.xaxis`."""
    from matplotlib.ticker import MaxNLocator

    for one in axis:
        one.set_major_locator(MaxNLocator(nbins=n, integer=True))
