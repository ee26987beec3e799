"""A map of windows as the encoder sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.evaluation.style import (
    CYCLE,
    MUTED,
    PALE,
    heading,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"train": "o", "validation": "^", "test": "s"}
MOST_SUBJECTS = 8
LONGEST = 40  # characters of a name
WIDTH = 75  # characters beside each other below a map


def embedding_figure(embedding: pd.DataFrame) -> Figure:
    """Draw the same map twice: coloured by label, and by subject.

    Neighbours on the left share what the probe looks for; neighbours on the right are the same
    person. A map that is all person and no label is worth knowing about.

    Parameters
    ----------
    embedding
        `x`, `y`, `label`, `split`, `subject` of each window.
    """
    with styled():
        figure, axes = new_figure(1, 2, panel=(5.0, 5.2))
        heading(
            figure,
            "Windows as the encoder sees them",
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
    return figure


def _by_label(axes: Axes, embedding: pd.DataFrame) -> None:
    axes.set_title("Coloured by label")
    labels = sorted(embedding["label"].unique())
    splits = [split for split in MARKERS if (embedding["split"] == split).any()]
    colours = dict(zip(labels, np.resize(CYCLE, len(labels)), strict=True))
    order = np.random.default_rng(0).permutation(len(embedding))  # no class on top of another
    for split in splits:
        part = embedding.iloc[order]
        part = part[part["split"] == split]
        axes.scatter(
            part["x"], part["y"], s=15 if split == "test" else 10, marker=MARKERS[split],
            c=[colours[label] for label in part["label"]], alpha=0.75, linewidths=0,
        )  # fmt: skip
    for label in labels:
        axes.scatter([], [], c=colours[label], s=26, label=label)
    for split in splits:
        axes.scatter([], [], c=MUTED, marker=MARKERS[split], s=22, label=split)
    _legend(axes)


def _by_subject(axes: Axes, embedding: pd.DataFrame) -> None:
    axes.set_title("Coloured by test subject")
    test = embedding["split"] == "test"
    others = embedding[~test]
    axes.scatter(others["x"], others["y"], s=10, c=PALE, linewidths=0, alpha=0.7)
    subjects = sorted(embedding.loc[test, "subject"].unique())
    for place, subject in enumerate(subjects[:MOST_SUBJECTS]):
        part = embedding[test & (embedding["subject"] == subject)]
        axes.scatter(
            part["x"], part["y"], s=15, marker="s", c=CYCLE[place], linewidths=0, alpha=0.8,
            label=f"sub-{subject}",
        )  # fmt: skip
    rest = subjects[MOST_SUBJECTS:]
    if rest:
        part = embedding[test & embedding["subject"].isin(rest)]
        axes.scatter(
            part["x"], part["y"], s=15, marker="s", c=MUTED, linewidths=0, alpha=0.5,
            label=f"{len(rest)} more",
        )  # fmt: skip
    axes.scatter([], [], c=PALE, s=22, label="train, validation")
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Put the legend below the map, in as many columns as its width has room for."""
    handles, names = axes.get_legend_handles_labels()
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    longest = max(map(len, names), default=1)
    axes.legend(
        handles, names, loc="upper left", bbox_to_anchor=(0, -0.01), handletextpad=0.2,
        columnspacing=1.0, borderaxespad=0.2, ncols=min(4, max(1, WIDTH // (longest + 5))),
    )  # fmt: skip
