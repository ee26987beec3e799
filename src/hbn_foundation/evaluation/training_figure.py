"""Training curves beside the scores of predictors that have learned nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.evaluation.pretext import TRIVIAL, trivial_of
from hbn_foundation.evaluation.style import (
    ACCENT,
    CYCLE,
    INK,
    MUTED,
    heading,
    new_figure,
    note,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "loss": "Loss",
    "band_loss": "Spectra of the bands",
    "masked_band_loss": "Masked bands",
    "patch_loss": "Hidden patches",
    "trivial_copy": "copying the input",
    "trivial_band_mean": "training mean",
    "trivial_masked_band_mean": "training mean",
    "trivial_patch_mean": "training mean",
    "trivial_visible_patches": "mean of the visible patches",
    "trivial_loss": "class shares",
    "trivial_accuracy": "majority class",
}


def training_figure(history: pd.DataFrame) -> Figure:
    """Draw losses with trivial predictors (dashed), accuracy where there is one, learning rate.

    Parameters
    ----------
    history
        One row per epoch: `epoch` (from 0), `train_loss`, `validation_loss`, the objective's
        scores on validation subjects, `trivial_…`, `learning_rate`, `seconds`.
    """
    parts = [name for name in TRIVIAL if name != "loss" and name in history]
    own_panels = parts if len(parts) > 1 else []
    panels = 2 + len(own_panels) + ("accuracy" in history)
    with styled():
        figure, axes = new_figure(1, panels, panel=(4.2, 3.2))
        heading(figure, "Pretraining", _subtitle(history))
        remaining = iter(axes)
        trivial = trivial_of(parts[0], history.columns) if len(parts) == 1 else []
        trivial = trivial or trivial_of("loss", history.columns)
        _losses(next(remaining), history, [] if own_panels else trivial)
        for name in own_panels:
            _part(next(remaining), history, name)
        if "accuracy" in history:
            _accuracy(next(remaining), history)
        _learning_rate(next(remaining), history)
    return figure


def best_epoch(history: pd.DataFrame) -> int | None:
    """Find the epoch (from 0) with the lowest validation loss."""
    losses = history["validation_loss"] if "validation_loss" in history else pd.Series(dtype=float)
    return None if losses.isna().all() else int(history["epoch"].iloc[int(losses.argmin())])


def _subtitle(history: pd.DataFrame) -> str:
    if history.empty:
        return "no epoch was finished"
    best = best_epoch(history)
    kept = f"epoch {best + 1} is kept" if best is not None else "no validation loss"
    minutes = history["seconds"].sum() / 60 if "seconds" in history else float("nan")
    return f"{len(history)} epochs in {minutes:.1f} min; {kept} (lowest validation loss)"


def _losses(axes: Axes, history: pd.DataFrame, trivial: list[str]) -> None:
    axes.set_title("Loss")
    if history.empty:
        return note(axes, "no epoch was finished")
    epochs = history["epoch"] + 1
    axes.plot(epochs, history["train_loss"], color=INK, marker="o", ms=3, label="training")
    known = history["validation_loss"].notna()
    axes.plot(
        epochs[known], history["validation_loss"][known], color=ACCENT, marker="o", ms=3,
        label="validation subjects",
    )  # fmt: skip
    _dashed(axes, history, trivial)
    best = best_epoch(history)
    if best is not None:
        loss = history.loc[history["epoch"] == best, "validation_loss"].iloc[0]
        axes.plot(best + 1, loss, "o", ms=9, mfc="none", mec=ACCENT, mew=1.5)
    _finish(axes, epochs)
    return None


def _part(axes: Axes, history: pd.DataFrame, name: str) -> None:
    axes.set_title(NAMES[name])
    epochs = history["epoch"] + 1
    known = history[name].notna()
    axes.plot(
        epochs[known], history[name][known], color=ACCENT, marker="o", ms=3,
        label="validation subjects",
    )  # fmt: skip
    _dashed(axes, history, trivial_of(name, history.columns))
    _finish(axes, epochs)


def _accuracy(axes: Axes, history: pd.DataFrame) -> None:
    axes.set_title("Accuracy on validation subjects")
    epochs = history["epoch"] + 1
    axes.plot(epochs, history["accuracy"], color=ACCENT, marker="o", ms=3, label="accuracy")
    _dashed(axes, history, ["trivial_accuracy"] if "trivial_accuracy" in history else [])
    _finish(axes, epochs)


def _learning_rate(axes: Axes, history: pd.DataFrame) -> None:
    axes.set_title("Learning rate at the end of each epoch")
    if history.empty or "learning_rate" not in history:
        return note(axes, "not recorded")
    epochs = history["epoch"] + 1
    axes.plot(epochs, history["learning_rate"], color=INK, marker="o", ms=3)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    _finish(axes, epochs, legend=False)
    return None


def _dashed(axes: Axes, history: pd.DataFrame, trivial: list[str]) -> None:
    colours = [MUTED, CYCLE[1], CYCLE[3]]
    for name, colour in zip(trivial, colours, strict=False):
        level = history[name].dropna()
        if not level.empty:
            label = f"trivial: {NAMES.get(name, name)}"
            axes.axhline(level.iloc[-1], color=colour, ls="--", lw=1.3, label=label)


def _finish(axes: Axes, epochs: pd.Series, legend: bool = True) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlim(epochs.min() - 0.6, epochs.max() + 0.6)
    if legend:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.28 * (high - low))  # room for the legend
        axes.legend(loc="upper right", ncols=1)
