"""The look that every figure of the project shares: sizes, colours, a few small helpers.

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22303c"
MUTED = "#75818c"
PALE = "#c9d1d8"
GRID = "#e6eaee"
ACCENT = "#1f6fb4"
WARNING = "#c8443c"

SPLIT_COLOURS = {"train": "#1f6fb4", "validation": "#e0972f", "test": "#3a9a78"}

# One accent for the project's own model; what it is compared with stays in the background.
OURS = ACCENT
METHOD_COLOURS = {
    "pretrained": OURS,
    "random": "#8fb3d3",
    "filter bank": "#a77fb5",
    "riemann": "#c3a3cd",
    "band power": "#d59a8c",
    "majority": PALE,
}

CYCLE = ["#1f6fb4", "#e0972f", "#3a9a78", "#a65fa8", "#c8443c", "#5d7486", "#b59a3c", "#4fb0c6"]

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
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
    "figure.facecolor": "white",
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "savefig.bbox": "tight",
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw with the project's look inside this block; settings outside are left alone."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**_RC, "axes.prop_cycle": cycler(color=CYCLE)}
    with mpl.rc_context(settings):
        yield


def new_figure(
    rows: int = 1, columns: int = 1, panel: tuple[float, float] = (3.6, 2.7), **subplots: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a grid of panels that share one constrained layout.

    Parameters
    ----------
    rows, columns
        The grid.
    panel
        Width and height of one panel in inches.
    **subplots
        Passed to `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    tuple
        The figure and its axes as a flat list, row by row.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.09)  # type: ignore[union-attr,call-arg]
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(np.ravel(axes))


def method_colour(method: str) -> str:
    """Colour of a method by the words in its name; unknown ones are grey."""
    name = method.lower().replace("_", " ").replace("-", " ")
    for words, colour in METHOD_COLOURS.items():
        if words in name:
            return colour
    return MUTED


def heading(figure: Figure, title: str, subtitle: str = "") -> None:
    """Write a title over the whole figure and, smaller, what the reader should know first."""
    text = f"{title}\n" if subtitle else title
    figure.suptitle(text, x=0.01, ha="left")
    if subtitle:
        figure.text(0.01, 0.985 - 0.24 / figure.get_figheight(), subtitle, fontsize=9, color=MUTED,
                    va="top")  # fmt: skip


def note(axes: Axes, text: str) -> None:
    """Write a sentence in the middle of a panel that has nothing else to show."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
