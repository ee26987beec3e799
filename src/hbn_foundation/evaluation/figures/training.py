"""Figures of a training: curves over the epochs, and planned learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures.style import (
    ACCENT,
    CYCLE,
    INK,
    MUTED,
    WARNING,
    heading,
    new_figure,
    note,
    styled,
    whole_numbers,
)
from hbn_foundation.evaluation.pretext import TRIVIAL, trivial_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {
    "recording_loss": "Spectra of the recording",
    "band_loss": "Spectra of the bands",
    "masked_band_loss": "Masked bands",
    "patch_loss": "Hidden patches",
}
TRIVIAL_NAMES = {
    "trivial_copy": "copying the input",
    "trivial_recording_mean": "training mean",
    "trivial_band_mean": "training mean",
    "trivial_masked_band_mean": "training mean",
    "trivial_patch_mean": "training mean",
    "trivial_visible_patches": "mean of the visible patches",
    "trivial_loss": "class shares",
    "trivial_accuracy": "majority class",
}
VALIDATION = "validation subjects"
SCORES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "f1": "F1 (macro)",
          "nrmse": "NRMSE", "r": "Pearson's r"}  # fmt: skip
UPDATE = "update_"
RATE_RANGE = 1e-4  # lowest rate on the axis, as a share of the highest


class Curves(NamedTuple):
    """Lines of one panel: columns of the history with their names, and levels beside them."""

    title: str
    lines: Mapping[str, str]
    trivial: Iterable[str] = ()
    log: bool = False


def pretraining_figure(history: pd.DataFrame) -> Figure:
    """Draw losses with trivial predictors (dashed), accuracy where there is one, learning rate.

    Parameters
    ----------
    history
        One row per epoch: `epoch` (from 1), `train_loss`, `validation_loss`, the objective's
        scores on validation subjects, `trivial_…`, `learning_rate`, `seconds`.
    """
    parts = [name for name in TRIVIAL if name != "loss" and name in history]
    of_loss = trivial_of(parts[0], history.columns) if len(parts) == 1 else []
    of_loss = of_loss or trivial_of("loss", history.columns)
    losses = {"train_loss": "training", "validation_loss": VALIDATION}
    panels = [Curves("Loss", losses, of_loss if len(parts) < 2 else [])]
    if len(parts) > 1:
        panels += [Curves(PARTS[name], {name: VALIDATION}, trivial_of(name, history.columns))
                   for name in parts]  # fmt: skip
    if "accuracy" in history:
        panels.append(Curves("Accuracy", {"accuracy": VALIDATION}, ["trivial_accuracy"]))
    panels.append(Curves("Learning rate at the end of each epoch", {"learning_rate": ""}))
    figure, axes = _course(history, panels, "Pretraining", _kept(history), (4.2, 3.3))
    best = best_epoch(history)
    if best is not None:
        loss = history.loc[history["epoch"] == best, "validation_loss"].iloc[0]
        axes[0].plot(best, loss, "o", ms=9, mfc="none", mec=ACCENT, mew=1.5)
    return figure


def finetuning_figure(history: pd.DataFrame, title: str = "Fine-tuning") -> Figure:
    """Draw loss, scores, class scatter and weight changes; dashed where blocks are unfrozen.

    Parameters
    ----------
    history
        One row per epoch: `epoch` (from 1), `train_loss`, `train_plain_loss` (of training
        windows without augmentation), `validation_loss`, scores of the validation subjects,
        `trainable` (names joined by commas), `update_<block>` (relative change of a block's
        weights in a step).
    title
        Over the figure.
    """
    losses = {"train_loss": "training, as minimised", "train_plain_loss": "training, as validated",
              "validation_loss": VALIDATION}  # fmt: skip
    apart = Curves("Gap of the losses", {"gap": "validation − training"})
    if "fisher_ratio" in history:
        apart = Curves("Fisher ratio of the features", {"fisher_ratio": ""})
    blocks = {str(n): str(n)[len(UPDATE) :] for n in history if str(n).startswith(UPDATE)}
    panels = [
        Curves("Loss", losses),
        Curves(f"Scores of the {VALIDATION}", SCORES),
        apart,
        Curves("Relative change of weights in a step", blocks, log=True),
    ]
    return _course(history, panels, title, _phases(history), (4.6, 3.1))[0]


def best_epoch(history: pd.DataFrame) -> int | None:
    """Find the epoch (from 1) with the lowest validation loss."""
    losses = history["validation_loss"] if "validation_loss" in history else pd.Series(dtype=float)
    return None if losses.isna().all() else int(history["epoch"].iloc[int(losses.argmin())])


def _course(
    history: pd.DataFrame,
    panels: list[Curves],
    title: str,
    subtitle: str,
    size: tuple[float, float],
) -> tuple[Figure, list[Axes]]:
    columns = len(panels) if len(panels) < 4 else -(-len(panels) // 2)
    with styled():
        figure, axes = new_figure(-(-len(panels) // columns), columns, panel=size)
        heading(figure, title, subtitle)
        for panel, curves in zip(axes, panels, strict=False):
            _curves(panel, history, curves)
        for spare in axes[len(panels) :]:
            spare.set_visible(False)
    return figure, axes


def _curves(panel: Axes, history: pd.DataFrame, curves: Curves) -> None:
    panel.set_title(curves.title)
    if history.empty:
        return note(panel, "no epoch was finished")
    found = [name for name in curves.lines if name in history and history[name].notna().any()]
    if not found:
        return note(panel, "not recorded")
    epochs, colours = history["epoch"], cycle(CYCLE)
    for name in found:
        known = history[name].notna() & ((history[name] > 0) | (not curves.log))
        colour = INK if name in ("train_loss", "learning_rate") else next(colours)
        label = curves.lines[name]
        panel.plot(epochs[known], history[name][known], marker="o", ms=3, color=colour, label=label)
    if curves.log:
        panel.set_yscale("log")
    if found == ["learning_rate"]:
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}" if value else "0")
    for epoch in _unfreezings(history):
        panel.axvline(epoch + 0.5, color=MUTED, lw=1, ls="--")
    levels = [name for name in curves.trivial if name in history and history[name].notna().any()]
    for name, style in zip(levels, ("--", ":"), strict=False):
        level = history[name].dropna().iloc[-1]
        panel.axhline(level, color=WARNING, ls=style, lw=1.2, label=TRIVIAL_NAMES[name])
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(whole_numbers(8))
    panel.set_xlim(epochs.min() - 0.6, epochs.max() + 0.6)
    panel.margins(y=0.12)
    if levels or any(curves.lines[name] for name in found):
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7)
    return None


def _kept(history: pd.DataFrame) -> str:
    if history.empty:
        return "no epoch was finished"
    best = best_epoch(history)
    kept = "no validation loss" if best is None else f"epoch {best} is kept"
    minutes = history["seconds"].sum() / 60 if "seconds" in history else float("nan")
    return f"{len(history)} epochs in {minutes:.1f} min; {kept} (lowest validation loss)"


def _unfreezings(history: pd.DataFrame) -> list[int]:
    """Epochs (from 1) after which blocks were unfrozen."""
    if "trainable" not in history:
        return []
    sets = history["trainable"].fillna("").astype(str)
    changed = sets.ne(sets.shift().fillna(sets)).to_numpy()
    return (history.loc[changed, "epoch"] - 1).astype(int).tolist()


def _phases(history: pd.DataFrame) -> str:
    unfrozen = _unfreezings(history)
    if not unfrozen:
        return f"{len(history)} epochs, one phase"
    after = ", ".join(str(epoch) for epoch in unfrozen)
    phases = f"{len(history)} epochs, {len(unfrozen) + 1} phases"
    return f"{phases}; blocks are unfrozen after epoch {after} (dashed)"


def learning_rate_figure(table: pd.DataFrame) -> Figure:
    """Draw each block's rate on a logarithmic axis; blocks that share a curve share a line.

    Parameters
    ----------
    table
        `epoch` (epochs done, a fraction), `block`, `rate`, `trained`: of `preview_rates`.
    """
    blocks = list(dict.fromkeys(table["block"]))
    rates = table.pivot(index="epoch", columns="block", values="rate")[blocks]
    trained = table.pivot(index="epoch", columns="block", values="trained")[blocks].astype(bool)
    with styled():
        figure, (panel,) = new_figure(1, 1, panel=(8.6, 3.6))
        first, last = trained.iloc[0].sum(), trained.iloc[-1].sum()
        blocks_in = f"{first} of {len(blocks)} blocks from the start, {last} at the end"
        heading(figure, "Learning rates of the plan", blocks_in)
        for number, (names, curve) in enumerate(_shared_curves(rates)):
            colour = ACCENT if number == 0 else CYCLE[1 + (number - 1) % (len(CYCLE) - 1)]
            panel.plot(curve.index, curve.where(curve > 0), color=colour, label=_span(names))
        _mark_unfreezing(panel, trained)
        panel.set_yscale("log")
        positive = rates.to_numpy()[rates.to_numpy() > 0]
        top, low = positive.max(initial=0.0), positive.min(initial=np.inf)
        panel.set_ylim(max(top * RATE_RANGE, low / 1.5), top * 1.6)
        panel.set_xlim(0, float(rates.index.max()))
        panel.set_xlabel("epoch")
        panel.set_ylabel("learning rate")
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _shared_curves(rates: pd.DataFrame) -> list[tuple[list[str], pd.Series]]:
    """Group blocks with the same curve, the head first, then from output to input."""
    groups: list[tuple[list[str], pd.Series]] = []
    for block in list(rates.columns)[::-1]:
        for names, curve in groups:
            if np.allclose(curve, rates[block], rtol=1e-6, atol=0):
                names.append(block)
                break
        else:
            groups.append(([block], rates[block]))
    return groups


def _span(names: list[str]) -> str:
    forward = [str(name) for name in names[::-1]]
    if len(forward) < 3:
        return ", ".join(forward)
    return f"{forward[0]} to {forward[-1]} ({len(forward)})"


def _mark_unfreezing(panel: Axes, trained: pd.DataFrame) -> None:
    joined = trained & ~trained.shift(fill_value=False)
    for epoch, row in joined.iloc[1:].iterrows():
        names = [str(name) for name in trained.columns[row][::-1]]
        if names:
            at = float(str(epoch))
            panel.axvline(at, color=MUTED, lw=1, ls="--")
            panel.annotate(
                f"+ {_span(names)}", (at, 1), (0, 3), fontsize=7.5, color=MUTED, va="bottom",
                xycoords=("data", "axes fraction"), textcoords="offset points", rotation=30,
            )  # fmt: skip
