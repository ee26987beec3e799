"""A two-dimensional map of the encoder's features of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures.style import (
    CYCLE,
    MUTED,
    PALE,
    heading,
    new_figure,
    shorten,
    styled,
)
from hbn_foundation.evaluation.statistics import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS: Any = {"linewidths": 0, "alpha": 0.75}
MAX_SUBJECTS = 8
MAX_LENGTH = 40  # characters of a name
WIDTH = 75  # characters beside each other below a map


def embedding_figure(embedding: pd.DataFrame) -> Figure:
    """Draw the same map twice: coloured by label, and by subject.

    A map that separates subjects but not labels shows features that identify persons.

    Parameters
    ----------
    embedding
        `x`, `y`, `label`, `split`, `subject` of each window.
    """
    with styled():
        figure, axes = new_figure(1, 2, panel=(5.0, 5.2))
        heading(
            figure,
            "Windows in the encoder's space",
            f"{len(embedding):,} windows of "
            f"{count_of(embedding['subject'].nunique(), 'subject')} in two dimensions; "
            "distances across the map mean little, neighbourhoods do",
        )
        _by_label(axes[0], embedding)
        _by_subject(axes[1], embedding)
        for panel in axes:
            panel.set_xticks([])
            panel.set_yticks([])
            panel.grid(False)
            _legend(panel)
    return figure


def _by_label(axes: Axes, embedding: pd.DataFrame) -> None:
    axes.set_title("Coloured by label (large: test subjects)")
    labels = sorted(embedding["label"].unique())
    colours = dict(zip(labels, np.resize(CYCLE, len(labels)), strict=True))
    shuffled = embedding.sample(frac=1, random_state=0)  # no class on top of another
    sizes = np.where(shuffled["split"] == "test", 18, 8)
    axes.scatter(shuffled["x"], shuffled["y"], s=sizes, c=shuffled["label"].map(colours), **DOTS)
    for label in labels:
        axes.scatter([], [], c=colours[label], s=26, label=label)


def _by_subject(axes: Axes, embedding: pd.DataFrame) -> None:
    axes.set_title("Coloured by test subject")
    test = embedding[embedding["split"] == "test"]
    others = embedding[embedding["split"] != "test"]
    axes.scatter(others["x"], others["y"], s=8, c=PALE, label="train, validation", **DOTS)
    subjects = sorted(test["subject"].unique())
    shown = {f"sub-{subject}": [subject] for subject in subjects[:MAX_SUBJECTS]}
    if len(subjects) > MAX_SUBJECTS:
        shown[f"{len(subjects) - MAX_SUBJECTS} more"] = subjects[MAX_SUBJECTS:]
    for (label, these), colour in zip(shown.items(), [*CYCLE, MUTED], strict=False):
        part = test[test["subject"].isin(these)]
        axes.scatter(part["x"], part["y"], s=18, c=colour, label=label, **DOTS)


def _legend(axes: Axes) -> None:
    """Put the legend below the map, in as many columns as its width has room for."""
    handles, names = axes.get_legend_handles_labels()
    names = [shorten(name, MAX_LENGTH) for name in names]
    longest = max(map(len, names), default=1)
    axes.legend(
        handles, names, loc="upper left", bbox_to_anchor=(0, -0.01), handletextpad=0.2,
        columnspacing=1.0, borderaxespad=0.2, ncols=min(4, max(1, WIDTH // (longest + 5))),
    )  # fmt: skip
