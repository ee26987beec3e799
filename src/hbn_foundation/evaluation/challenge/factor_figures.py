"""Figures of the factors: predictions, and how they relate to age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.challenge.drawing import diagonal, points
from hbn_foundation.evaluation.challenge.factors import MAIN_FACTOR
from hbn_foundation.evaluation.challenge.subjects import PREDICTED
from hbn_foundation.evaluation.challenge.wording import number
from hbn_foundation.evaluation.style import (
    ACCENT,
    CYCLE,
    MUTED,
    WARNING,
    new_figure,
    note,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def factor_answers_figure(subjects: pd.DataFrame, factors: tuple[str, ...]) -> Figure:
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
            _one_factor(panel, subjects, factor)
        axes[0].set_ylabel("predicted")
    return figure


def _one_factor(panel: Axes, subjects: pd.DataFrame, factor: str) -> None:
    known = subjects[subjects[factor].notna()]
    values = known[factor].to_numpy(float)
    answers = known[PREDICTED + factor].to_numpy(float)
    given = known[["age", "sex"]]
    both = given.notna().all(axis=1).to_numpy()
    r = scores.pearson_r(values, answers)
    left = scores.partial_r(values[both], answers[both], given[both].to_numpy(float))
    panel.set_title(
        f"{named(factor)}\nr {number(r, 2) or '–'}, given age, sex {number(left, 2) or '–'}"
    )
    if not len(values):
        return note(panel, "not known")
    points(panel, values, answers)
    panel.axhline(values.mean(), color=MUTED, lw=1, ls=":")
    if not np.isnan(r):
        ends = np.array([values.min(), values.max()])
        slope = r * answers.std() / values.std()
        panel.plot(ends, answers.mean() + slope * (ends - values.mean()), color=ACCENT, lw=1.4)
    diagonal(panel, values, values)
    panel.set_xlabel("true")
    return None


def factor_errors_figure(
    subjects: pd.DataFrame,
    baseline: pd.DataFrame | None,
    factor: str = MAIN_FACTOR,
) -> Figure:
    """Draw the errors of one factor by subject, and its prediction over age.

    Parameters
    ----------
    subjects
        Of the model: the factor, `predicted_<factor>`, `age` and `sex`.
    baseline
        The same of age and sex alone; None where that was not asked for.
    factor
        Which one.
    """
    known = subjects[subjects[factor].notna()]
    with styled():
        figure, axes = new_figure(1, 2, panel=(3.7, 3.4))
        _against_demographics(axes[0], known, baseline, factor)
        _over_age(axes[1], known, factor)
    return figure


def _against_demographics(
    panel: Axes, subjects: pd.DataFrame, baseline: pd.DataFrame | None, factor: str
) -> None:
    panel.set_title(f"{named(factor).capitalize()}: error of each subject")
    if baseline is None:
        return note(panel, "age and sex are not\namong the baselines")
    error = (subjects[PREDICTED + factor] - subjects[factor]).abs().to_numpy()
    theirs = baseline.set_index("subject").loc[subjects["subject"]]
    other = (theirs[PREDICTED + factor] - theirs[factor]).abs().to_numpy()
    better = error < other
    for chosen, colour in ((better, ACCENT), (~better, WARNING)):
        panel.plot(other[chosen], error[chosen], "o", ms=4.5, mew=0, color=colour, alpha=0.7)
    diagonal(panel, other, error)
    text = f"model better in {int(better.sum())} of {len(better)} subjects"
    panel.text(0.04, 0.97, text, transform=panel.transAxes, va="top", fontsize=8)
    panel.margins(y=0.14)
    panel.set_xlabel("|error| of age and sex")
    panel.set_ylabel("|error| of the model")
    return None


def _over_age(panel: Axes, subjects: pd.DataFrame, factor: str) -> None:
    panel.set_title("Prediction over age")
    known = subjects[subjects["age"].notna()]
    if known.empty:
        return note(panel, "age is not known")
    for sex, name, colour in ((0.0, "female", CYCLE[3]), (1.0, "male", CYCLE[2])):
        part = known[known["sex"] == sex]
        if len(part):
            panel.plot(part["age"], part[PREDICTED + factor], "o", ms=4.5, mew=0, color=colour,
                       alpha=0.7, label=name)  # fmt: skip
    unknown = known[known["sex"].isna()]
    panel.plot(unknown["age"], unknown[PREDICTED + factor], "o", ms=4.5, mew=0, color=MUTED)
    r = scores.pearson_r(known["age"].to_numpy(float), known[PREDICTED + factor].to_numpy(float))
    panel.text(0.04, 0.97, f"r with age {number(r, 2) or '–'}", transform=panel.transAxes, va="top",
               fontsize=8)  # fmt: skip
    panel.margins(y=0.16)
    panel.legend(loc="upper right")
    panel.set_xlabel("age (years)")
    panel.set_ylabel("predicted")
    return None


def named(factor: str) -> str:
    """Write a factor as a reader wants it."""
    return "p factor" if factor == "p_factor" else factor.replace("_", " ")
