"""Figures of what a model predicts: confusion of classes, predicted against true numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.evaluate import by_recording
from hbn_foundation.evaluation.figures.style import (
    ACCENT,
    INK,
    MUTED,
    WARNING,
    corner,
    diagonal,
    heading,
    new_figure,
    note,
    points,
    shorten,
    styled,
)
from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.evaluation.tasks.factors import PREDICTED
from hbn_foundation.evaluation.wording import display_factor, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LENGTH = 32  # characters of a class: room for the names of tasks


def predictions_figure(
    predictions: pd.DataFrame, title: str = "Predictions of the model"
) -> Figure:
    """Draw confusion matrices of classes, or predicted against true numbers.

    Parameters
    ----------
    predictions
        One row per test window: `recording`, `subject`; `label` and `p(<class>)` of each class,
        or `value` and `predicted`.
    title
        Over the figure.
    """
    if "value" not in predictions:
        return confusion_figure(predictions, title)
    values, answers = (predictions[name].to_numpy(float) for name in ("value", "predicted"))
    whole = by_recording(values, answers, predictions["recording"].to_numpy())
    with styled():
        figure, axes = new_figure(1, 2, panel=(3.9, 3.8), sharex=True, sharey=True)
        heading(figure, title, count_of(predictions["subject"].nunique(), "test subject"))
        of = {"window": (axes[0], values, answers), "recording": (axes[1], *whole)}
        for unit, (panel, true, predicted) in of.items():
            found = {"NRMSE": scores.nrmse(true, predicted), "r": scores.pearson_r(true, predicted)}
            words = [f"{name} {score:.2f}" for name, score in found.items() if np.isfinite(score)]
            said = ", ".join(words) or "no score"
            panel.set_title(f"{count_of(len(true), unit)}\n{said}")
            _against_truth(panel, true, predicted)
    return figure


def confusion_figure(predictions: pd.DataFrame, title: str) -> Figure:
    """Draw how true classes (rows) are predicted (columns), in shares of each row.

    Parameters
    ----------
    predictions
        One row per test window: `recording`, `subject`, `label` and `p(<class>)` of each class.
    title
        Over the figure.
    """
    columns = [name for name in predictions if str(name).startswith("p(")]
    names = [str(name)[2:-1] for name in columns]
    number = {name: index for index, name in enumerate(names)}
    labels = predictions["label"].map(number).to_numpy()
    answers = np.log(np.maximum(predictions[columns].to_numpy(float), 1e-30))
    whole_labels, whole = by_recording(labels, answers, predictions["recording"].to_numpy())
    short = [shorten(name, MAX_LENGTH) for name in names]
    longest = max(map(len, short))
    rotation = 0 if longest * len(short) < 40 else 35
    side = 1.9 + 0.5 * len(names)
    # names stand to the left of the matrix and, where they are long, aslant below it
    size = (side + max(0.075 * longest, 0.9), side + 0.7 + (0.05 * longest if rotation else 0.0))
    with styled():
        panels = 2 if len(whole_labels) else 1  # trials of a recording have no common class
        figure, axes = new_figure(1, panels, panel=size)
        heading(figure, title, count_of(predictions["subject"].nunique(), "test subject"))
        _matrix(axes[0], labels, answers.argmax(1), short, rotation)
        axes[0].set_title(_counted(labels, answers.argmax(1), "window"))
        if panels == 2:
            _matrix(axes[1], whole_labels, whole.argmax(1), short, rotation)
            axes[1].set_title(_counted(whole_labels, whole.argmax(1), "recording"))
    return figure


def _matrix(
    axes: Axes, labels: np.ndarray, predicted: np.ndarray, names: list[str], rotation: int
) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    places = range(len(names))
    counts = confusion_matrix(labels, predicted, labels=places)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    drawn = ConfusionMatrixDisplay(shares, display_labels=names).plot(
        ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1.15}
    )
    for text, share, count in zip(drawn.text_.flat, shares.flat, counts.flat, strict=True):
        text.set(text=f"{share:.0%}\n{count:,}", fontsize=9 if len(names) < 6 else 6.5,
                 color="white" if share > 0.6 else INK)  # fmt: skip
    axes.set_xticks(places, names, rotation=rotation, ha="right" if rotation else "center")
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _counted(labels: np.ndarray, predicted: np.ndarray, unit: str) -> str:
    accuracy = scores.balanced_accuracy(labels, predicted)
    said = "one class only" if np.isnan(accuracy) else f"balanced accuracy {accuracy:.3f}"
    return f"{count_of(len(labels), unit)}\n{said}"


def _against_truth(panel: Axes, values: np.ndarray, answers: np.ndarray, unit: str = "") -> None:
    """Draw predicted over true numbers; dashed: equal, dotted: the mean."""
    points(panel, values, answers)
    diagonal(panel, values, values)
    panel.axhline(values.mean(), color=MUTED, lw=1, ls=":")
    panel.set_xlabel(f"true{unit}")
    panel.set_ylabel(f"predicted{unit}")


def _two_errors(panel: Axes, other: np.ndarray, model: np.ndarray, better_in: str) -> None:
    """Draw a dot per subject: the model's error over another's; red where it is the larger one."""
    better = model < other
    for chosen, colour in ((better, ACCENT), (~better, WARNING)):
        panel.plot(other[chosen], model[chosen], "o", ms=4.5, mew=0, color=colour, alpha=0.7)
    diagonal(panel, other, model)
    corner(panel, f"{better_in} in {int(better.sum())} of {len(better)} subjects")
    panel.margins(y=0.14)


def response_time_figure(table: pd.DataFrame) -> Figure:
    """Draw predicted against true response times, and error and correlation of each subject.

    Parameters
    ----------
    table
        One row per test trial: `subject`, `rt` and `predicted_rt` in s.
    """
    times, predicted = table["rt"].to_numpy(float), table["predicted_rt"].to_numpy(float)
    subjects = table["subject"].to_numpy()
    with styled():
        figure, axes = new_figure(1, 3, panel=(3.7, 3.4))
        axes[0].set_title("Predicted against true")
        _against_truth(axes[0], times, predicted, " response time (s)")
        axes[1].set_title("Error of each subject")
        squares = pd.DataFrame(
            {"model": (predicted - times) ** 2, "mean": (times.mean() - times) ** 2}
        )
        errors = squares.groupby(subjects).mean() ** 0.5
        _two_errors(axes[1], errors["mean"].to_numpy(), errors["model"].to_numpy(),
                    "better than the mean")  # fmt: skip
        axes[1].set_xlabel("RMSE of always the mean (s)")
        axes[1].set_ylabel("RMSE of the model (s)")
        axes[2].set_title("Correlation inside each subject")
        _within_subjects(axes[2], *scores.group_fisher_z(times, predicted, subjects))
    return figure


def _within_subjects(panel: Axes, z: np.ndarray, weights: np.ndarray) -> None:
    correlations = np.sort(np.tanh(z[weights > 0]))
    if not len(correlations):
        return note(panel, "no subject with four trials or more")
    panel.plot(correlations, "o", ms=4, mew=0, color=ACCENT)
    panel.axhline(0, color=INK, lw=0.8)
    mean = scores.mean_r(z, weights)
    panel.axhline(mean, color=ACCENT, lw=1.2, ls=(0, (4, 2)))
    corner(panel, f"mean {mean:.2f} (dashed)")
    panel.set_xticks([])
    panel.set_xlabel(f"{count_of(len(correlations), 'test subject')}, sorted")
    panel.set_ylabel("Pearson r")
    return None


def factor_figure(subjects: pd.DataFrame, factors: tuple[str, ...]) -> Figure:
    """Draw predicted against true factors, one dot per test subject.

    Parameters
    ----------
    subjects
        One row per test subject: each factor, `predicted_<factor>`, `age` and `sex`.
    factors
        Their names.
    """
    with styled():
        figure, axes = new_figure(1, len(factors), panel=(2.85, 3.2))
        for panel, factor in zip(axes, factors, strict=True):
            known = subjects[subjects[factor].notna()]
            values, answers = (known[name].to_numpy(float) for name in (factor, PREDICTED + factor))
            r, rest = scores.pearson_r(values, answers), _partial(known, factor)
            said = [number(value, 2) or "–" for value in (r, rest)]
            panel.set_title(f"{display_factor(factor)}\nr {said[0]}, given age, sex {said[1]}")
            if not len(values):
                note(panel, "not known")
                continue
            _against_truth(panel, values, answers)
            if not np.isnan(r):
                slope, offset = np.polyfit(values, answers, 1)
                ends = np.array([values.min(), values.max()])
                panel.plot(ends, offset + slope * ends, color=ACCENT, lw=1.4)
        for panel in axes[1:]:
            panel.set_ylabel("")
    return figure


def _partial(known: pd.DataFrame, factor: str) -> float:
    both = known[known[["age", "sex"]].notna().all(axis=1)]
    given = both[["age", "sex"]].to_numpy(float)
    return scores.partial_r(
        both[factor].to_numpy(float), both[PREDICTED + factor].to_numpy(float), given
    )
