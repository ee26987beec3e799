"""Example trials: the EEG that the model sees and, below it, when it expects the press."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.density import RANGE, density_of
from hbn_foundation.evaluation.style import ACCENT, INK, MUTED, PALE, new_figure, note, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hbn_foundation.signals.store import SignalStore

SHOWN = ("Fz", "C3", "Cz", "C4", "Pz", "O1", "O2")
QUANTILES = (0.25, 0.5, 0.75)
BEFORE = 0.8  # s of EEG drawn before the window, so from .3 s before the stimulus


def example_figure(store: SignalStore, table: pd.DataFrame) -> Figure:
    """Draw three trials: those whose error has a quarter, half and three quarters below it.

    Parameters
    ----------
    store
        The signals.
    table
        One row per test trial: `recording`, `subject`, `start` (samples), `rt` and
        `predicted_rt` (s), and the `density_…` where there is a distribution.
    """
    chosen = typical_trials(table)
    edges, shares = density_of(table.iloc[chosen])
    with styled():
        figure, axes = new_figure(2, len(chosen), panel=(11.1 / len(chosen), 2.6), sharex=True,
                                  gridspec_kw={"height_ratios": [2.6, 1]})  # fmt: skip
        for place, (number, quantile) in enumerate(zip(chosen, QUANTILES, strict=False)):
            trial = table.iloc[number]
            error = abs(trial["predicted_rt"] - trial["rt"]) * 1000
            axes[place].set_title(f"error {error:.0f} ms ({quantile:.0%} have less)")
            _eeg(axes[place], store, trial, labels=place == 0)
            below = axes[len(chosen) + place]
            _distribution(below, edges, None if shares is None else shares[place], trial)
            for panel in (axes[place], below):
                panel.axvline(trial["rt"], color=INK, lw=1.3)
                panel.axvline(trial["predicted_rt"], color=ACCENT, lw=1.3, ls=(0, (4, 2)))
            if place == 0:
                below.set_ylabel("% per bin")
    return figure


def typical_trials(table: pd.DataFrame) -> list[int]:
    """Places of the trials at the quartiles of the absolute error."""
    error = (table["predicted_rt"] - table["rt"]).abs().to_numpy(float)
    order = np.argsort(error, kind="stable")
    places = [int(order[round(q * (len(order) - 1))]) for q in QUANTILES]
    return list(dict.fromkeys(places))


def _eeg(panel: Axes, store: SignalStore, trial: pd.Series, labels: bool) -> None:
    names, time, signals = trial_signals(store, str(trial["recording"]), int(trial["start"]))
    panel.axvspan(*RANGE, color=PALE, alpha=0.25, lw=0)
    panel.grid(False)
    if not names:
        return note(panel, "no usable channel")
    step = 2.2 * float(np.quantile(np.abs(signals), 0.97)) or 1.0
    heights = -step * np.arange(len(names))
    panel.plot(time, (signals - np.median(signals, 1, keepdims=True) + heights[:, None]).T,
               color=MUTED, lw=0.8)  # fmt: skip
    panel.set_yticks(heights, names)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.axvline(0, color=MUTED, lw=1, ls=":")
    panel.set_xlim(time[0], RANGE[1] + 0.1)
    panel.set_ylim(heights[-1] - 2 * step, step)
    bar, foot = _round_bar(step), heights[-1] - 1.9 * step
    panel.plot([RANGE[1] + 0.06] * 2, [foot, foot + bar], color=INK, lw=1.6,
               solid_capstyle="butt")  # fmt: skip
    panel.text(RANGE[1] + 0.02, foot + bar / 2, f"{bar:g} µV", ha="right", va="center",
               fontsize=7.5)  # fmt: skip
    if labels:
        panel.text(0, step, " stimulus", fontsize=7.5, color=MUTED, va="top")
    return None


def trial_signals(
    store: SignalStore, recording: str, start: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Signals around a trial's window at the usable channels nearest to seven known places.

    Returns
    -------
    names : list of str
        `Pz (E62)`, or `Pz` where the channel has that name.
    time : numpy.ndarray
        Seconds after the stimulus (T,).
    signals : numpy.ndarray
        µV (n, T).
    """
    from hbn_foundation.models.spatial import DIRECTIONS_10_20

    row = int(np.flatnonzero(store.recordings["recording"].to_numpy() == recording)[0])
    columns, usable = store.channel_index(row), store.usable(row)
    good = np.flatnonzero(usable[columns])
    cosines = store.positions[columns[good]] @ np.array([DIRECTIONS_10_20[n] for n in SHOWN]).T
    found: dict[int, str] = {}
    for place, name in enumerate(SHOWN):
        if len(good):
            column = int(good[int(np.argmax(cosines[:, place]))])
            own = store.channel_names[columns[column]]
            found.setdefault(column, name if own == name else f"{name} ({own})")
    # nothing beyond a gap or of a bad segment
    ((low, high),) = store.range_of(np.array([row]), np.array([start]))
    first = max(low, start - round(BEFORE * store.sfreq))
    last = min(start + round((RANGE[1] - RANGE[0] + 0.1) * store.sfreq), high)
    piece = np.asarray(store.signal(row)[first:last], np.float32) * store.scales(row) * 1e6
    time = RANGE[0] + (first - start + np.arange(len(piece))) / store.sfreq
    return list(found.values()), time, piece[:, list(found)].T


def _round_bar(size: float) -> float:
    """Round a size down to 1, 2 or 5 times a power of ten."""
    power = 10 ** np.floor(np.log10(size))
    return float(max(n for n in (1, 2, 5) if n * power <= size * 1.0001) * power)


def _distribution(
    panel: Axes, edges: np.ndarray, shares: np.ndarray | None, trial: pd.Series
) -> None:
    if shares is not None:
        panel.stairs(shares * 100, edges, fill=True, color=ACCENT, alpha=0.3)
    else:
        panel.set_yticks([])
    panel.margins(y=0.25)
    panel.set_xlabel("s after the stimulus")
    _, top = panel.get_ylim()
    panel.set_ylim(0, top * 1.25)
    right = trial["predicted_rt"] >= trial["rt"]
    for time, text, colour, to_right in (
        (trial["rt"], f" press {trial['rt']:.2f} ", INK, not right),
        (trial["predicted_rt"], f" expected {trial['predicted_rt']:.2f} ", ACCENT, right),
    ):
        panel.text(time, 1.0, text, transform=panel.get_xaxis_transform(), color=colour,
                   fontsize=7.5, va="top", ha="left" if to_right else "right")  # fmt: skip
