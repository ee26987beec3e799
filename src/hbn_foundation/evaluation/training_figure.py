"""Training curves beside the scores of predictors that have learned nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.evaluation.pretext import TRIVIAL, trivial_of
from hbn_foundation.evaluation.style import (
    ACCENT,
    INK,
    WARNING,
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
    "recording_loss": "Spectra of the recording",
    "band_loss": "Spectra of the bands",
    "masked_band_loss": "Masked bands",
    "patch_loss": "Hidden patches",
    "trivial_copy": "copying the input",
    "trivial_recording_mean": "training mean",
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
        One row per epoch: `epoch` (from 1), `train_loss`, `validation_loss`, the objective's
        scores on validation subjects, `trivial_…`, `learning_rate`, `seconds`.
    """
    parts = [name for name in TRIVIAL if name != "loss" and name in history]
    own_panels = parts if len(parts) > 1 else []
    panels = 2 + len(own_panels) + ("accuracy" in history)
    with styled():
        columns = panels if panels < 4 else -(-panels // 2)
        figure, axes = new_figure(-(-panels // columns), columns, panel=(4.2, 3.3))
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
        for spare in remaining:
            spare.set_visible(False)
    return figure


def best_epoch(history: pd.DataFrame) -> int | None:
    """Find the epoch (from 1) with the lowest validation loss."""
    losses = history["validation_loss"] if "validation_loss" in history else pd.Series(dtype=float)
    return None if losses.isna().all() else int(history["epoch"].iloc[int(losses.argmin())])


def _subtitle(history: pd.DataFrame) -> str:
    if history.empty:
        return "no epoch was finished"
    best = best_epoch(history)
    kept = f"epoch {best} is kept" if best is not None else "no validation loss"
    minutes = history["seconds"].sum() / 60 if "seconds" in history else float("nan")
    return f"{len(history)} epochs in {minutes:.1f} min; {kept} (lowest validation loss)"


def _losses(axes: Axes, history: pd.DataFrame, trivial: list[str]) -> None:
    axes.set_title("Loss")
    if history.empty:
        return note(axes, "no epoch was finished")
    epochs = history["epoch"]
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
        axes.plot(best, loss, "o", ms=9, mfc="none", mec=ACCENT, mew=1.5)
    finish(axes, epochs)
    return None


def _part(axes: Axes, history: pd.DataFrame, name: str) -> None:
    axes.set_title(NAMES[name])
    epochs = history["epoch"]
    known = history[name].notna()
    axes.plot(
        epochs[known], history[name][known], color=ACCENT, marker="o", ms=3,
        label="validation subjects",
    )  # fmt: skip
    _dashed(axes, history, trivial_of(name, history.columns))
    finish(axes, epochs)


def _accuracy(axes: Axes, history: pd.DataFrame) -> None:
    axes.set_title("Accuracy on validation subjects")
    epochs = history["epoch"]
    axes.plot(epochs, history["accuracy"], color=ACCENT, marker="o", ms=3, label="accuracy")
    _dashed(axes, history, ["trivial_accuracy"] if "trivial_accuracy" in history else [])
    finish(axes, epochs)


def _learning_rate(axes: Axes, history: pd.DataFrame) -> None:
    axes.set_title("Learning rate at the end of each epoch")
    if history.empty or "learning_rate" not in history:
        return note(axes, "not recorded")
    epochs = history["epoch"]
    axes.plot(epochs, history["learning_rate"], color=INK, marker="o", ms=3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}" if value else "0")
    finish(axes, epochs, legend=False)
    return None


def _dashed(axes: Axes, history: pd.DataFrame, trivial: list[str]) -> None:
    """Draw what trivial predictors score, each named at its line."""
    last = history["epoch"].max()
    levels = {name: history[name].dropna() for name in trivial}
    lowest = min((level.iloc[-1] for level in levels.values() if len(level)), default=0.0)
    for name, level in levels.items():
        if not level.empty:
            below = len(levels) > 1 and level.iloc[-1] == lowest  # close lines keep their names
            axes.axhline(level.iloc[-1], color=WARNING, ls="--", lw=1.2)
            axes.annotate(
                f"trivial: {NAMES.get(name, name)}", (last, level.iloc[-1]),
                (0, -3 if below else 3),
                textcoords="offset points", ha="right", va="top" if below else "bottom",
                fontsize=7.5, color=WARNING,
            )  # fmt: skip


def finish(axes: Axes, epochs: pd.Series, legend: bool = True) -> None:
    """Set the axis of epochs, and the legend below it."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlim(epochs.min() - 0.6, epochs.max() + 0.6)
    axes.margins(y=0.12)
    if legend:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
