"""Confusion matrices, of windows and of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.metrics import by_recording, confusion_matrix
from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.evaluation.style import INK, heading, new_figure, styled
from hbn_foundation.scores import balanced_accuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 32  # letters of a class: room for the names of tasks


def confusion_figure(
    predictions: pd.DataFrame, title: str = "What the frozen probe answers"
) -> Figure:
    """Draw how true classes (rows) are answered (columns), in shares of each row.

    Parameters
    ----------
    predictions
        One row per test window: `recording`, `subject`, `label` and `p(<class>)` of each class.
    title
        Over the whole figure.
    """
    columns = [name for name in predictions if str(name).startswith("p(")]
    names = [str(name)[2:-1] for name in columns]
    number = {name: index for index, name in enumerate(names)}
    labels = predictions["label"].map(number).to_numpy()
    answers = np.log(np.maximum(predictions[columns].to_numpy(float), 1e-30))
    pooled_labels, pooled = by_recording(labels, answers, predictions["recording"].to_numpy())
    side = 1.9 + 0.5 * len(names)
    with styled():
        # names stand to the left of the matrix and, where they are long, aslant below it
        longest = max(map(len, _short(names)))
        below = 0.05 * longest if _rotation(names) else 0.0
        beside = max(0.075 * longest, 0.9)
        panels = 2 if len(pooled_labels) else 1  # trials of a recording have no common class
        figure, axes = new_figure(1, panels, panel=(side + beside, side + 0.7 + below))
        heading(
            figure,
            title,
            count_of(predictions["subject"].nunique(), "test subject"),
        )
        _matrix(axes[0], labels, answers.argmax(1), names, "window")
        if panels == 2:
            _matrix(axes[1], pooled_labels, pooled.argmax(1), names, "recording")
    return figure


def _short(names: list[str]) -> list[str]:
    return [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]


def _rotation(names: list[str]) -> int:
    """Degrees by which the names below a matrix are turned: none where they have room."""
    return 0 if max(map(len, _short(names))) * len(names) < 40 else 35


def _matrix(
    axes: Axes, labels: np.ndarray, predicted: np.ndarray, names: list[str], unit: str
) -> None:
    counts = confusion_matrix(labels, predicted, len(names))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    for row, column in np.ndindex(counts.shape):
        share = shares[row, column]
        axes.text(
            column, row, f"{share:.0%}\n{counts[row, column]:,}", ha="center", va="center",
            fontsize=9 if len(names) < 6 else 6.5, color="white" if share > 0.6 else INK,
        )  # fmt: skip
    short = _short(names)
    rotation = _rotation(names)
    axes.set_xticks(
        range(len(names)), short, rotation=rotation, ha="right" if rotation else "center"
    )
    axes.set_yticks(range(len(names)), short)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    accuracy = balanced_accuracy(labels, predicted)
    score = "one class only" if np.isnan(accuracy) else f"balanced accuracy {accuracy:.3f}"
    axes.set_title(f"{count_of(len(labels), unit)}\n{score}")
