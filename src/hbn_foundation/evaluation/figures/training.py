"""Figures of a training: curves over the epochs, and planned learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures import style
from hbn_foundation.evaluation.pretext import TRIVIAL
from hbn_foundation.evaluation.statistics import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {
    "recording_loss": "Spectra of the recording",
    "band_loss": "Spectra of the bands",
    "masked_band_loss": "Masked bands",
    "patch_loss": "Hidden patches",
}
NAMES = {
    "train_loss": "training, as minimised",
    "train_plain_loss": "training, as validated",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1 (macro)",
    "nrmse": "NRMSE",
    "r": "Pearson's r",
    "trivial_copy": "copying the input",
    "trivial_visible_patches": "mean of the visible patches",
    "trivial_loss": "class shares",
    "trivial_accuracy": "majority class",
    "trivial_slow_mean": "mean of the recording",
    **dict.fromkeys(
        ("trivial_recording_mean", "trivial_band_mean", "trivial_masked_band_mean",
         "trivial_patch_mean"),
        "training mean",
    ),
}  # fmt: skip
VALIDATION = "validation subjects"
SCORES = ("auroc", "balanced_accuracy", "f1", "nrmse", "r")
UPDATE = "update_"
RATE_RANGE = 1e-4  # lowest rate on the axis, as a share of the highest


def pretraining_figure(history: pd.DataFrame) -> Figure:
    """Draw losses with trivial predictors (dotted), accuracy where there is one, learning rate.

    Parameters
    ----------
    history
        One row per epoch: `epoch` (from 1), `train_loss`, `validation_loss`, the objective's
        scores on validation subjects, `trivial_…`, `learning_rate`, `seconds`.
    """
    parts = [name for name in PARTS if name in history]
    panels = {"Loss": ["train_loss", "validation_loss"]}
    if len(parts) < 2:
        panels["Loss"] += TRIVIAL[parts[0] if parts else "loss"]
    else:
        panels |= {PARTS[name]: [name, *TRIVIAL[name]] for name in parts}
    if "accuracy" in history:
        panels["Accuracy"] = ["accuracy", "trivial_accuracy"]
    panels["Learning rate at the end of each epoch"] = ["learning_rate"]
    best = best_epoch(history)
    kept = "no validation loss" if best is None else f"epoch {best} is kept"
    minutes = history.get("seconds", pd.Series(dtype=float)).sum() / 60
    subtitle = f"{len(history)} epochs in {minutes:.1f} min; {kept} (lowest validation loss)"
    return _curves(history, panels, "Pretraining", subtitle)


def finetuning_figure(history: pd.DataFrame, title: str = "Fine-tuning") -> Figure:
    """Draw loss, scores, class scatter and weight changes; dashed where blocks are unfrozen.

    Parameters
    ----------
    history
        One row per epoch: `epoch` (from 1), `train_loss`, `train_plain_loss` (of training
        windows without augmentation), `validation_loss`, scores of the validation subjects,
        `phase` (from 1), `trainable` (names joined by commas), `update_<block>` (relative change of
        a block's weights in a step).
    title
        Over the figure.
    """
    apart = {"Gap of the losses": ["gap"]}
    if "fisher_ratio" in history:
        apart = {"Fisher ratio of the features": ["fisher_ratio"]}
    panels = {
        "Loss": ["train_loss", "train_plain_loss", "validation_loss"],
        f"Scores of the {VALIDATION}": SCORES,
        **apart,
        "Relative change of weights in a step": [
            str(name) for name in history if str(name).startswith(UPDATE)
        ],
    }
    unfrozen = _unfreezings(history)
    phases = history.get("phase", pd.Series([1])).nunique()
    subtitle = f"{len(history)} epochs, {count_of(phases, 'phase')}"
    if unfrozen:
        subtitle += f"; blocks are unfrozen after epoch {', '.join(map(str, unfrozen))} (dashed)"
    return _curves(history, panels, title, subtitle)


def best_epoch(history: pd.DataFrame) -> int | None:
    """Find the epoch (from 1) with the lowest validation loss."""
    losses = history["validation_loss"] if "validation_loss" in history else pd.Series(dtype=float)
    return None if losses.isna().all() else int(history["epoch"].iloc[int(losses.argmin())])


def _curves(
    history: pd.DataFrame, panels: Mapping[str, Sequence[str]], title: str, subtitle: str
) -> Figure:
    """Draw the columns of the history that are there, a panel for each title."""
    columns = len(panels) if len(panels) < 4 else -(-len(panels) // 2)
    with style.styled():
        figure, axes = style.new_figure(-(-len(panels) // columns), columns, panel=(4.6, 3.1))
        style.heading(figure, title, subtitle)
        for spare in axes[len(panels) :]:
            spare.set_visible(False)
        for panel, (name, wanted) in zip(axes, panels.items(), strict=False):
            panel.set_title(name)
            shown = [one for one in wanted if one in history and history[one].notna().any()]
            if not shown:
                style.note(panel, "not recorded")
                continue
            if shown[0].startswith(UPDATE):
                panel.set_yscale("log", nonpositive="mask")
            for column in shown:
                _curve(panel, history, column)
            for epoch in _unfreezings(history):
                panel.axvline(epoch + 0.5, color=style.MUTED, lw=1, ls="--")
            panel.set_xlabel("epoch")
            style.whole_numbers(panel.xaxis, n=8)
            panel.set_xlim(history["epoch"].min() - 0.6, history["epoch"].max() + 0.6)
            panel.margins(y=0.12)
            if shown not in (["learning_rate"], ["gap"], ["fisher_ratio"]):
                panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7)
    return figure


def _curve(panel: Axes, history: pd.DataFrame, column: str) -> None:
    """Draw a column over the epochs; that of a trivial predictor as the level it ends at."""
    label = NAMES.get(column, column.removeprefix(UPDATE) if UPDATE in column else VALIDATION)
    if column.startswith("trivial_"):
        level, dashes = history[column].dropna().iloc[-1], ":" if label == "training mean" else "--"
        panel.axhline(level, color=style.WARNING, ls=dashes, lw=1.2, label=label)
        return
    known = history[["epoch", column]].dropna()
    colour = style.INK if column in ("train_loss", "learning_rate") else None
    panel.plot(known["epoch"], known[column], marker="o", ms=3, color=colour, label=label)


def _unfreezings(history: pd.DataFrame) -> list[int]:
    """Epochs (from 1) after which blocks were unfrozen."""
    if "trainable" not in history:
        return []
    sets = history["trainable"].fillna("").astype(str)
    changed = sets.ne(sets.shift().fillna(sets)).to_numpy()
    return (history.loc[changed, "epoch"] - 1).astype(int).tolist()


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
    groups: dict[str, list[str]] = {}
    for block in blocks:
        groups.setdefault(" ".join(f"{rate:.6g}" for rate in rates[block]), []).append(block)
    with style.styled():
        figure, (panel,) = style.new_figure(1, 1, panel=(8.6, 3.6))
        first, last = trained.iloc[0].sum(), trained.iloc[-1].sum()
        blocks_in = f"{first} of {len(blocks)} blocks from the start, {last} at the end"
        style.heading(figure, "Learning rates of the plan", blocks_in)
        for names in list(groups.values())[::-1]:  # the head first
            curve = rates[names[0]]
            panel.plot(curve.index, curve.where(curve > 0), label=_span(names))
        joined = (trained & ~trained.shift(fill_value=False)).iloc[1:]
        for epoch in joined.index[joined.any(axis=1)]:
            panel.axvline(epoch, color=style.MUTED, lw=1, ls="--")
            names = [name for name in blocks if joined.loc[epoch, name]]
            panel.annotate(
                f"+ {_span(names)}", (epoch, 1), (0, 3),
                fontsize=7.5, color=style.MUTED, va="bottom", rotation=30,
                xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip
        positive = rates.to_numpy()[rates.to_numpy() > 0]
        top, low = positive.max(initial=0.0), positive.min(initial=np.inf)
        panel.set_yscale("log")
        panel.set_ylim(max(top * RATE_RANGE, low / 1.5), top * 1.6)
        panel.set_xlim(0, float(rates.index.max()))
        panel.set(xlabel="epoch", ylabel="learning rate")
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _span(names: list[str]) -> str:
    if len(names) < 3:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)})"
