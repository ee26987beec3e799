"""The learning rate of each block over a run, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.style import ACCENT, CYCLE, MUTED, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = 1e-4


def lr_curves(table: pd.DataFrame, title: str = "Learning rates of the plan") -> Figure:
    """Draw each block's rate on a logarithmic axis; blocks that share a curve share a line.

    Parameters
    ----------
    table
        `epoch` (epochs done, a fraction), `block`, `rate`, `trained`: of `preview_rates`.
    title
        Over the figure.
    """
    blocks = list(dict.fromkeys(table["block"]))
    rates = table.pivot(index="epoch", columns="block", values="rate")[blocks]
    trained = table.pivot(index="epoch", columns="block", values="trained")[blocks].astype(bool)
    with styled():
        figure, axes = new_figure(1, 1, panel=(8.6, 3.6))
        panel = axes[0]
        heading(figure, title, _subtitle(rates, trained))
        for number, (names, curve) in enumerate(_groups(rates)):
            colour = ACCENT if number == 0 else CYCLE[1 + (number - 1) % (len(CYCLE) - 1)]
            panel.plot(
                curve.index, np.where(curve > 0, curve, np.nan), color=colour, label=_label(names)
            )
        _phases(panel, trained)
        panel.set_yscale("log")
        top = float(np.nanmax(rates.to_numpy()))
        panel.set_ylim(max(top * DECADES, _lowest(rates) / 1.5), top * 1.6)
        panel.set_xlim(0, float(rates.index.max()))
        panel.set_xlabel("epoch")
        panel.set_ylabel("learning rate")
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _groups(rates: pd.DataFrame) -> list[tuple[list[str], pd.Series]]:
    """Blocks with the same curve, the head's first, then from the back to the front."""
    groups: list[tuple[list[str], pd.Series]] = []
    for block in list(rates.columns)[::-1]:
        for names, curve in groups:
            if np.allclose(curve, rates[block], rtol=1e-6, atol=0):
                names.append(block)
                break
        else:
            groups.append(([block], rates[block]))
    return groups


def _label(names: list[str]) -> str:
    forward = [str(name) for name in names[::-1]]
    if len(forward) < 3:
        return ", ".join(forward)
    return f"{forward[0]} to {forward[-1]} ({len(forward)})"


def _phases(panel: Axes, trained: pd.DataFrame) -> None:
    """Mark where blocks join, and name them."""
    joined = trained & ~trained.shift(fill_value=False)
    for epoch, row in joined.iloc[1:].iterrows():
        names = [str(name) for name in trained.columns[row][::-1]]
        if names:
            panel.axvline(float(str(epoch)), color=MUTED, lw=1, ls="--")
            panel.annotate(
                f"+ {_label(names)}", (float(str(epoch)), 1), (0, 3), fontsize=7.5, color=MUTED,
                xycoords=("data", "axes fraction"), textcoords="offset points", va="bottom",
                rotation=30,
            )  # fmt: skip


def _lowest(rates: pd.DataFrame) -> float:
    values = rates.to_numpy()
    return float(values[values > 0].min(initial=np.inf))


def _subtitle(rates: pd.DataFrame, trained: pd.DataFrame) -> str:
    peaks = rates.max()
    first, last = int(trained.iloc[0].sum()), int(trained.iloc[-1].sum())
    text = f"{first} of {rates.shape[1]} blocks from the start, {last} at the end"
    others = peaks.iloc[:-1]
    others = others[others > 0]
    if others.empty:
        return text
    return f"{text}; highest rate {peaks.iloc[-1]:.2g} (head), {others.max():.2g} (others)"
