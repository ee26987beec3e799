"""Figures of what a model predicts: confusion of classes, predicted against true numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.evaluate import by_recording
from hbn_foundation.evaluation.figures import style
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
    with style.styled():
        figure = (_numbers if "value" in predictions else _classes)(predictions)
        style.heading(figure, title, count_of(predictions["subject"].nunique(), "test subject"))
    return figure


def _numbers(predictions: pd.DataFrame) -> Figure:
    values, answers = (predictions[name].to_numpy(float) for name in ("value", "predicted"))
    whole = by_recording(values, answers, predictions["recording"].to_numpy())
    figure, axes = style.new_figure(1, 2, panel=(3.9, 3.8), sharex=True, sharey=True)
    of = {"window": (values, answers), "recording": whole}
    for panel, (unit, (true, predicted)) in zip(axes, of.items(), strict=True):
        found = {"NRMSE": scores.nrmse(true, predicted), "r": scores.pearson_r(true, predicted)}
        panel.set_title(_counted(len(true), unit, **found))
        _against_truth(panel, true, predicted)
    return figure


def _classes(predictions: pd.DataFrame) -> Figure:
    columns = [str(name) for name in predictions if str(name).startswith("p(")]
    place_of = {name[2:-1]: place for place, name in enumerate(columns)}
    labels = predictions["label"].map(place_of).to_numpy()
    answers = np.log(np.maximum(predictions[columns].to_numpy(float), 1e-30))
    whole = by_recording(labels, answers, predictions["recording"].to_numpy())
    parts = {"window": (labels, answers)}
    if len(whole[0]):  # trials of a recording have no common class
        parts["recording"] = whole
    names = [style.shorten(name, MAX_LENGTH) for name in place_of]
    longest, side = max(map(len, names)), 1.9 + 0.5 * len(names)
    rotation = 0 if longest * len(names) < 40 else 35
    # names stand to the left of the matrix and, where they are long, aslant below it
    size = (side + max(0.075 * longest, 0.9), side + 0.7 + (0.05 * longest if rotation else 0.0))
    figure, axes = style.new_figure(1, len(parts), panel=size)
    for panel, (unit, (true, of_unit)) in zip(axes, parts.items(), strict=True):
        accuracy = scores.balanced_accuracy(true, of_unit.argmax(1))
        panel.set_title(_counted(len(true), unit, **{"balanced accuracy": accuracy}))
        _matrix(panel, true, of_unit.argmax(1), names, rotation)
    return figure


def _matrix(
    axes: Axes, labels: np.ndarray, predicted: np.ndarray, names: list[str], rotation: int
) -> None:
    """Draw how true classes (rows) are predicted (columns), in shares of each row and counts."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    places = range(len(names))
    counts = confusion_matrix(labels, predicted, labels=places)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    drawn = ConfusionMatrixDisplay(shares, display_labels=names).plot(
        ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1.15}
    )
    for text, share, count in zip(drawn.text_.flat, shares.flat, counts.flat, strict=True):
        text.set(text=f"{share:.0%}\n{count:,}", fontsize=9 if len(names) < 6 else 6.5,
                 color="white" if share > 0.6 else style.INK)  # fmt: skip
    axes.set_xticks(places, names, rotation=rotation, ha="right" if rotation else "center")
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    axes.tick_params(length=0)


def _counted(n: int, unit: str, **found: float) -> str:
    words = [f"{name} {score:.3f}" for name, score in found.items() if np.isfinite(score)]
    return f"{count_of(n, unit)}\n{', '.join(words) or 'one class or value only: no score'}"


def _against_truth(panel: Axes, values: np.ndarray, answers: np.ndarray, unit: str = "") -> None:
    """Draw predicted over true numbers; dashed: equal, dotted: the mean."""
    alpha = float(np.clip(60 / max(len(values), 1) ** 0.75, 0.05, 0.8))  # the paler the more
    panel.plot(values, answers, "o", ms=4, mew=0, color=style.ACCENT, alpha=alpha)
    panel.plot(ends := [values.min(), values.max()], ends, color=style.MUTED, lw=1, ls="--")
    panel.axhline(values.mean(), color=style.MUTED, lw=1, ls=":")
    panel.grid(True, axis="both")
    panel.set(xlabel=f"true{unit}", ylabel=f"predicted{unit}")


def response_time_figure(table: pd.DataFrame) -> Figure:
    """Draw predicted against true response times, and error and correlation of each subject.

    Parameters
    ----------
    table
        One row per test trial: `subject`, `rt` and `predicted_rt` in s.
    """
    times, predicted = table["rt"].to_numpy(float), table["predicted_rt"].to_numpy(float)
    subjects = table["subject"].to_numpy()
    squares = pd.DataFrame({"model": (predicted - times) ** 2, "mean": (times.mean() - times) ** 2})
    errors = squares.groupby(subjects).mean() ** 0.5
    better = errors["model"] < errors["mean"]
    z, weights = scores.group_fisher_z(times, predicted, subjects)
    with style.styled():
        figure, axes = style.new_figure(1, 3, panel=(3.7, 3.4))
        axes[0].set_title("Predicted against true")
        _against_truth(axes[0], times, predicted, " response time (s)")
        axes[1].set_title("Error of each subject")
        colours = np.where(better, style.ACCENT, style.WARNING)
        axes[1].scatter(errors["mean"], errors["model"], c=colours, s=20, lw=0, alpha=0.7)
        axes[1].axline((errors["mean"].mean(),) * 2, slope=1, color=style.MUTED, lw=1, ls="--")
        style.corner(axes[1], f"better than the mean in {better.sum()} of {len(better)} subjects")
        axes[1].margins(y=0.14)
        axes[1].set(xlabel="RMSE of always the mean (s)", ylabel="RMSE of the model (s)")
        axes[2].set_title("Correlation inside each subject")
        correlations = np.sort(np.tanh(z[weights > 0]))
        if not len(correlations):
            style.note(axes[2], "no subject with four trials or more")
            return figure
        axes[2].plot(correlations, "o", ms=4, mew=0, color=style.ACCENT)
        axes[2].axhline(0, color=style.INK, lw=0.8)
        mean = scores.mean_r(z, weights)
        axes[2].axhline(mean, color=style.ACCENT, lw=1.2, ls="--")
        style.corner(axes[2], f"mean {mean:.2f} (dashed)")
        axes[2].set_xticks([])
        axes[2].set_xlabel(f"{count_of(len(correlations), 'test subject')}, sorted")
        axes[2].set_ylabel("Pearson r")
    return figure


def factor_figure(subjects: pd.DataFrame, factors: tuple[str, ...]) -> Figure:
    """Draw predicted against true factors, one dot per test subject.

    Parameters
    ----------
    subjects
        One row per test subject: each factor, `predicted_<factor>`, `age` and `sex`.
    factors
        Their names.
    """
    with style.styled():
        figure, axes = style.new_figure(1, len(factors), panel=(2.85, 3.2))
        for panel, factor in zip(axes, factors, strict=True):
            known = subjects[subjects[factor].notna()]
            values, answers = (known[name].to_numpy(float) for name in (factor, PREDICTED + factor))
            people = known[["age", "sex"]].to_numpy(float)
            both = ~np.isnan(people).any(1)
            rest = scores.partial_r(values[both], answers[both], people[both])
            r, given = (number(one, 2) or "–" for one in (scores.pearson_r(values, answers), rest))
            panel.set_title(f"{display_factor(factor)}\nr {r}, given age, sex {given}")
            if len(values):
                _against_truth(panel, values, answers)
            else:
                style.note(panel, "not known")
        for panel in axes[1:]:
            panel.set_ylabel("")
    return figure
