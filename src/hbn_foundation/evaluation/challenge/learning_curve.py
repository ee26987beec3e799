"""How scores grow with the subjects whose labels are known: figure and text."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.wording import number
from hbn_foundation.evaluation.finetuned import FINE_TUNED, written_method
from hbn_foundation.evaluation.finetuning_comparison import SCRATCH
from hbn_foundation.evaluation.finetuning_report import score_title
from hbn_foundation.evaluation.report import WIDTH
from hbn_foundation.evaluation.report import table as as_text
from hbn_foundation.evaluation.statistics import level
from hbn_foundation.evaluation.style import ACCENT, CYCLE, MUTED, new_figure, note, styled
from hbn_foundation.scores import lower_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {"r": "Pearson r", "auroc": "AUROC of success", "window_nrmse": "NRMSE of windows",
          "subject_nrmse": "NRMSE of subjects", "subject_r": "Pearson r of subjects"}  # fmt: skip
CONSTANTS = {"constant": ":", "median": (0, (4, 2))}
"""How the lines of methods that answer all alike are drawn."""
OF_TIMES, OF_FACTORS = ("nrmse", "r"), ("window_nrmse", "subject_r")


def curve_scores(table: pd.DataFrame) -> tuple[str, ...]:
    """Name the scores that are drawn, by what was predicted."""
    return OF_FACTORS if OF_FACTORS[0] in table else OF_TIMES


def learning_curve_text(table: pd.DataFrame) -> str:
    """Write the error of each method on each share of the training subjects, and who is ahead.

    Parameters
    ----------
    table
        As for `learning_curve_figure`.
    """
    name = curve_scores(table)[0]
    counts = sorted(int(n) for n in table["n_subjects"].unique())
    found = {
        (method, n): table.loc[
            (table["method"] == method) & (table["n_subjects"] == n), name
        ].to_numpy(float)
        for method in map(str, table["method"].unique())
        for n in counts
    }
    shares = {n: float(table.loc[table["n_subjects"] == n, "share"].mean()) for n in counts}
    methods = sorted({method for method, _ in found}, key=lambda m: found[m, counts[-1]].mean())
    rows = [
        [written_method(method), *(_mean_sd(found[method, n]) for n in counts)]
        for method in methods
    ]
    header = [f"{TITLES.get(name) or score_title(name)}, lower is better"]
    header += [f"{n} ({shares[n]:.0%})" for n in counts]
    n_seeds = table["seed"].nunique()
    seeds = f"mean ± sd (ddof 1) over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    title = f"Training subjects with labels; {seeds}, the same test subjects"
    verdicts, beside = [], []
    for n in counts:
        ours = found[FINE_TUNED, n]
        others = {m: found[m, n].mean() for m in methods if m not in (FINE_TUNED, SCRATCH)}
        best = min(others, key=lambda method: others[method])
        verdicts.append(f"with {n} subjects {_ahead(ours, others[best])} ({written_method(best)})")
        if SCRATCH in methods:
            beside.append(f"with {n} subjects {_ahead(ours, found[SCRATCH, n].mean())}")
    said = [f"Beside the best baseline, the fine-tuned model is {'; '.join(verdicts)}."]
    if beside:
        said.append(f"Beside the same model from scratch, it is {'; '.join(beside)}.")
    text = "\n".join(fill(sentence, WIDTH) for sentence in said)
    return f"{as_text(title, header, rows)}\n{text}"


def _ahead(ours: np.ndarray, other: float) -> str:
    gap = other - ours.mean()
    if level(gap):
        return "level"
    return f"ahead by {number(gap)}" if gap > 0 else f"NOT ahead, behind by {number(-gap)}"


def _mean_sd(values: np.ndarray) -> str:
    return number(values.mean()) + (f" ± {number(values.std(ddof=1))}" if len(values) > 1 else "")


def learning_curve_figure(table: pd.DataFrame, names: tuple[str, ...] = OF_TIMES) -> Figure:
    """Draw scores over the number of training subjects.

    Parameters
    ----------
    table
        One row per method, share and seed: `method`, `share` (of the training subjects, 0 to 1),
        `n_subjects` (training subjects) and the scores of the test subjects.
    names
        Scores, one panel each. Lines are means over seeds, bands one standard deviation.
    """
    shown = [name for name in names if name in table and table[name].notna().any()]
    with styled():
        figure, axes = new_figure(1, max(len(shown), 1), panel=(11.1 / max(len(shown), 2), 3.9))
        if not shown:
            note(axes[0], "no run was scored")
            return figure
        for panel, name in zip(axes, shown, strict=True):
            _curve(panel, table, name)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
    return figure


def _curve(panel: Axes, table: pd.DataFrame, name: str) -> None:
    others = iter([colour for colour in CYCLE if colour != ACCENT])
    better = "lower" if lower_is_better(name) else "higher"
    title = TITLES.get(name) or score_title(name)
    panel.set_title(f"{title} ({better} is better)")
    ticks = table.groupby("n_subjects")["share"].mean()
    order = sorted(table["method"].unique(), key=lambda method: method != FINE_TUNED)
    for method in order:
        groups = table[table["method"] == method].groupby("n_subjects")[name]
        mean, spread = groups.mean(), groups.std(ddof=1).fillna(0.0)
        constant = method in CONSTANTS
        colour = ACCENT if method == FINE_TUNED else MUTED if constant else next(others)
        style = CONSTANTS.get(method, "-")
        panel.plot(mean.index, mean, ls=style, marker=None if constant else "o", ms=4,
                   color=colour, label=written_method(method),
                   zorder=3 if method == FINE_TUNED else 2)  # fmt: skip
        panel.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=0.12, lw=0)
    panel.set_xlim(0, ticks.index.max() * 1.04)
    panel.set_xticks(ticks.index, [f"{n}\n{share:.0%}" for n, share in ticks.items()])
    panel.set_xlabel("training subjects, share of all")
    panel.margins(y=0.12)
