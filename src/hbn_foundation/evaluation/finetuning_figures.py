"""Figures of fine-tuning: its course with the phases, what it answers, how plans compare."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.confusion_figure import confusion_figure
from hbn_foundation.evaluation.finetuning_comparison import is_baseline
from hbn_foundation.evaluation.finetuning_report import score_title
from hbn_foundation.evaluation.regression_metrics import numbers_by_recording, regression_scores
from hbn_foundation.evaluation.report import p_is
from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.evaluation.style import (
    ACCENT,
    CYCLE,
    INK,
    MUTED,
    PALE,
    heading,
    new_figure,
    note,
    styled,
)
from hbn_foundation.evaluation.training_figure import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "f1": "F1 (macro)",
          "nrmse": "NRMSE", "r": "Pearson's r"}  # fmt: skip
UPDATE = "update_"


def finetuning_figure(history: pd.DataFrame, title: str = "Fine-tuning") -> Figure:
    """Draw loss, scores, class scatter and movement of the blocks; dashed where blocks join.

    Parameters
    ----------
    history
        One row per epoch: `epoch` (from 1), `train_loss`, `train_plain_loss` (of training
        windows as they are), `validation_loss`, scores of the
        validation subjects, `trainable` (names joined by commas), `update_<block>` (relative
        change of a block's weights in a step).
    title
        Over the figure.
    """
    with styled():
        figure, axes = new_figure(2, 2, panel=(4.6, 3.1))
        heading(figure, title, _phases_in_words(history))
        if history.empty:
            for panel in axes:
                note(panel, "no epoch was finished")
            return figure
        lines = {
            "train_loss": "training, as minimised",
            "train_plain_loss": "training, as validated",
            "validation_loss": "validation subjects",
        }
        _lines(axes[0], history, lines, "Loss")
        _lines(axes[1], history, SCORES, "Scores of the validation subjects")
        ratio = {"fisher_ratio": "scatter between / within classes"}
        if "fisher_ratio" in history:
            _lines(axes[2], history, ratio, "Fisher ratio of the features")
        else:
            _lines(axes[2], history, {"gap": "validation − training"}, "Gap of the losses")
        moved = {str(n): str(n)[len(UPDATE) :] for n in history if str(n).startswith(UPDATE)}
        _lines(axes[3], history, moved, "Relative change of weights in a step", log=True)
    return figure


def _lines(
    panel: Axes, history: pd.DataFrame, names: dict[str, str], title: str, log: bool = False
) -> None:
    panel.set_title(title)
    found = [name for name in names if name in history and history[name].notna().any()]
    if not found:
        note(panel, "not recorded")
        return
    epochs, colours = history["epoch"], cycle(CYCLE)
    for name in found:
        values = history[name].where(history[name] > 0) if log else history[name]
        colour = INK if name == "train_loss" else next(colours)
        panel.plot(epochs, values, marker="o", ms=3, color=colour, label=names[name])
    if log:
        panel.set_yscale("log")
    for epoch in _joins(history):
        panel.axvline(epoch + 0.5, color=MUTED, lw=1, ls="--")
    finish(panel, epochs, legend=len(found) > 1)
    if len(found) > 1:
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7)


def _joins(history: pd.DataFrame) -> list[int]:
    """Epochs (from 1) after which blocks have joined."""
    if "trainable" not in history:
        return []
    sets = history["trainable"].fillna("").astype(str)
    changed = sets.ne(sets.shift().fillna(sets)).to_numpy()
    return (history.loc[changed, "epoch"] - 1).astype(int).tolist()


def _phases_in_words(history: pd.DataFrame) -> str:
    joins = _joins(history)
    if not joins:
        return f"{len(history)} epochs, one phase"
    after = ", ".join(str(epoch) for epoch in joins)
    return (
        f"{len(history)} epochs, {len(joins) + 1} phases; blocks join after epoch {after} (dashed)"
    )


def answers_figure(predictions: pd.DataFrame, title: str = "What the model answers") -> Figure:
    """Draw confusion matrices of classes, or predicted against true numbers.

    Parameters
    ----------
    predictions
        Of `predictions_table`.
    title
        Over the figure.
    """
    if "value" not in predictions:
        return confusion_figure(predictions, title)
    values, answers = (predictions[name].to_numpy(float) for name in ("value", "predicted"))
    recordings = predictions["recording"].to_numpy()
    scores = regression_scores(values, answers, recordings)
    with styled():
        figure, axes = new_figure(1, 2, panel=(3.9, 3.8), sharex=True, sharey=True)
        heading(
            figure, title, f"{count_of(predictions['subject'].nunique(), 'subject')} never seen"
        )
        _scatter(axes[0], values, answers, f"{len(values):,} windows", scores, "", 0.15)
        whole = numbers_by_recording(values, answers, recordings)
        unit = f"{len(whole[0]):,} recordings"
        _scatter(axes[1], *whole, unit, scores, "recording_", 0.8)
    return figure


def _scatter(
    panel: Axes, values: np.ndarray, answers: np.ndarray, unit: str, scores: dict[str, float],
    prefix: str, alpha: float,
) -> None:  # fmt: skip
    low, high = min(values.min(), answers.min()), max(values.max(), answers.max())
    panel.plot([low, high], [low, high], color=MUTED, lw=1, ls="--")
    panel.axhline(values.mean(), color=PALE, lw=1, ls=":")
    panel.plot(values, answers, "o", ms=4, mew=0, color=ACCENT, alpha=alpha)
    found = {name: scores[f"{prefix}{name}"] for name in ("nrmse", "r")}
    words = [f"{SCORES[name]} {value:.2f}" for name, value in found.items() if np.isfinite(value)]
    panel.set_title("\n".join([unit, ", ".join(words) or "no score"]))
    panel.set_xlabel("true")
    panel.set_ylabel("predicted")
    panel.grid(True, axis="both")


def comparison_figure(folds: pd.DataFrame, summary: pd.DataFrame, score: str) -> Figure:
    """Draw every method: its folds and mean, and how far the best plan is ahead of it.

    Parameters
    ----------
    folds, summary
        As for and of `comparison_table`.
    score
        The score that was compared.
    """
    methods = summary["method"].tolist()[::-1]
    with styled():
        figure, axes = new_figure(1, 2, panel=(4.6, 1.3 + 0.36 * max(len(methods), 2)), sharey=True)
        seeds = int(summary["seeds"].max()) if len(summary) else 0
        n_folds = summary["folds"].max() if len(summary) else 0
        bars = "bar: ± 1 sd (left), 95 % corrected t (right)"
        each = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
        words = f"{n_folds} folds, {each} each; large dot: mean; {bars}"
        heading(figure, "Ways of fine-tuning, and baselines (grey)", words)
        if not methods:
            for panel in axes:
                note(panel, "no fold was finished")
            return figure
        rows = summary.set_index("method")
        for height, method in enumerate(methods):
            of_fold = folds[folds["method"] == method].groupby(["repeat", "fold"])[score].mean()
            _method_row(axes, of_fold.dropna().to_numpy(float), rows.loc[method], method, height)
        axes[0].set_title(score_title(score))
        axes[1].set_title("best plan ahead by")
        axes[1].axvline(0, color=MUTED, lw=1, ls=":")
        axes[0].set_yticks(range(len(methods)), rows.loc[methods, "name"].tolist())
        axes[0].set_ylim(-0.7, len(methods) - 0.3)
        for label, method in zip(axes[0].get_yticklabels(), methods, strict=True):
            label.set_fontweight("bold" if rows.loc[method, "reference"] else "normal")
        for panel in axes:
            panel.grid(True, axis="x")
            panel.grid(False, axis="y")
            panel.margins(x=0.1)
        axes[1].margins(x=0.25)  # room for what is written above a point
    return figure


def _method_row(
    axes: list[Axes], of_fold: np.ndarray, row: pd.Series, method: str, height: int
) -> None:
    colour = MUTED if is_baseline(method) else ACCENT
    spread = np.linspace(-0.22, 0.22, len(of_fold)) if len(of_fold) > 1 else np.zeros(len(of_fold))
    axes[0].plot(of_fold, height + spread, "o", ms=4, mew=0, color=colour, alpha=0.4)
    if np.isfinite(row["score"]):
        sd = row["score_sd"] if np.isfinite(row["score_sd"]) else 0.0
        ends = [row["score"] - sd, row["score"] + sd]
        _dot(axes[0], row["score"], ends, height, colour, f"{row['score']:.3f}")
    if np.isfinite(row["ahead_by"]):
        p = "" if pd.isna(row["p_holm"]) else f" ({p_is(row['p_holm'])})"
        ends = [row["ahead_low"], row["ahead_high"]]
        _dot(axes[1], row["ahead_by"], ends, height, colour, f"{row['ahead_by']:+.3f}{p}")


def _dot(panel: Axes, value: float, ends: list[float], height: int, colour: str, text: str) -> None:
    if np.isfinite(ends).all():
        panel.plot(ends, [height, height], color=INK, lw=1.2, solid_capstyle="butt", zorder=3)
    panel.plot(value, height, "o", ms=8, color=colour, mec=INK, mew=0.9, zorder=4)
    panel.annotate(text, (value, height), (0, 7), textcoords="offset points", ha="center",
                   fontsize=7.5, color=INK, zorder=5)  # fmt: skip
