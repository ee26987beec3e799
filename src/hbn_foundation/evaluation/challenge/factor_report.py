"""The report on the factors: figures, page and the same in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.challenge.aims import factor_aims
from hbn_foundation.evaluation.challenge.factor_figures import (
    factor_answers_figure,
    factor_errors_figure,
    named,
)
from hbn_foundation.evaluation.challenge.factors import MEAN, main_factor
from hbn_foundation.evaluation.challenge.learning_curve import OF_FACTORS, learning_curve_figure
from hbn_foundation.evaluation.challenge.page import (
    Card,
    Column,
    Picture,
    ScoreTable,
    evaluation_page,
    score_card,
)
from hbn_foundation.evaluation.challenge.spatial_figure import spatial_figure
from hbn_foundation.evaluation.challenge.wording import (
    AHEAD,
    BASELINES_OF_FACTORS,
    INTERVALS,
    OF_BOTH,
    about_intervals,
    long_text,
    number,
    own,
    rival,
    short_text,
    value_text,
    verdict_text,
)
from hbn_foundation.evaluation.finetuned import FINE_TUNED
from hbn_foundation.evaluation.finetuning_figures import finetuning_figure
from hbn_foundation.evaluation.report import WIDTH, table
from hbn_foundation.evaluation.sample import fitted_text
from hbn_foundation.evaluation.statistics import count_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hbn_foundation.evaluation.challenge.spatial import SpatialMaps
    from hbn_foundation.signals.store import SignalStore

COLUMNS = (
    Column("window_nrmse", "NRMSE, windows", interval=True, drawn=True, at=1.0),
    Column("window_nrmse_ahead", "model ahead by", interval=True, signed=True),
    Column("subject_nrmse", "NRMSE, subjects"),
    Column("subject_r", "r, subjects", 2, interval=True),
    Column("partial_r", "r given age, sex", 2, interval=True),
    Column("calibration_slope", "slope", 2),
)
FACTOR_COLUMNS = (
    Column("window_nrmse", "NRMSE, windows", interval=True, drawn=True, at=1.0),
    Column("age_sex", "age and sex"),
    Column("best", "best baseline"),
    Column("subject_nrmse", "NRMSE, subjects"),
    Column("subject_r", "r, subjects", 2, interval=True),
    Column("partial_r", "r given age, sex", 2, interval=True),
    Column("calibration_slope", "slope", 2),
)
PICTURES = {
    "answers": (
        "Predicted against true factors",
        "One dot per test subject; dashed: right, dotted: the mean, line: regression. A factor "
        "that cannot be predicted lies flat on the mean.",
    ),
    "errors": (
        "What of it is age",
        "Left: below the line the model errs less than age and sex alone (red: more). Right: a "
        "prediction that follows age knows no more than the date of birth.",
    ),
    "spatial": (
        "Where on the scalp it looks",
        "How far the prediction of each factor moves when the channels within 30° of a place are "
        "hidden; behind these, where the model has learned spatial components, the patterns of "
        "those that matter most to the first.",
    ),
    **OF_BOTH,
}
NOTES = (
    ("NRMSE, windows", "Root mean square error over the standard deviation of the true values, "
     "both over all test windows, as the challenge scores externalizing. 1: always the mean. The "
     "best of 184 entries of the 2025 challenge had .978 on its hidden release; age and sex alone "
     "have .974 on its validation release."),
    ("NRMSE, subjects", "The same with one prediction per subject, made from its windows."),
    ("r given age, sex", "Partial correlation over subjects: what is left when linear regression "
     "on age and sex is taken out of truth and prediction. None where nothing is left, or of fewer "
     "than five subjects."),
    ("slope", "Of the regression of true on predicted values over subjects; 1: calibrated, below "
     "1: predictions spread too far."),
    ("model ahead by", AHEAD),
    ("intervals", INTERVALS),
    ("baselines", BASELINES_OF_FACTORS),
)  # fmt: skip


def factor_figures(
    subjects: pd.DataFrame,
    factors: tuple[str, ...],
    store: SignalStore,
    history: pd.DataFrame | None = None,
    maps: SpatialMaps | None = None,
    learning_curve: pd.DataFrame | None = None,
) -> dict[str, Figure]:
    """Draw all figures of the report.

    Parameters
    ----------
    subjects
        Of `evaluate_factors`: one row per method and test subject.
    factors
        Their names.
    store
        The signals.
    history
        One row per epoch of the training.
    maps
        Of `spatial_maps`, one prediction per factor.
    learning_curve
        See `learning_curve_figure`.

    Returns
    -------
    dict
        By name, those that can be drawn of `answers`, `errors`, `spatial`, `learning_curve`,
        `training`.
    """
    ours = subjects[subjects["method"] == FINE_TUNED]
    simple = subjects[subjects["method"] == "age_sex"]
    main = main_factor(factors)
    figures = {
        "answers": factor_answers_figure(ours, factors),
        "errors": factor_errors_figure(ours, None if simple.empty else simple, main),
    }
    if maps is not None:
        names = tuple(map(named, factors))
        figures["spatial"] = spatial_figure(maps, store.positions, "", names)
    if learning_curve is not None and len(learning_curve):
        figures["learning_curve"] = learning_curve_figure(learning_curve, OF_FACTORS)
    if history is not None:
        figures["training"] = finetuning_figure(history, "Factors")
    return figures


def factor_page(
    scores: pd.DataFrame, metrics: Mapping[str, Any], figures: Mapping[str, Figure], about: str = ""
) -> str:
    """Write the report as one HTML page.

    Parameters
    ----------
    scores, metrics
        Of `evaluate_factors`.
    figures
        Of `factor_figures`.
    about
        What the model is, for the small print: its version, its data.
    """
    main = _main(scores)
    of_main, of_mean = of_factor(scores, main), of_factor(scores, MEAN)
    tables = [
        ScoreTable(
            f"{named(main).capitalize()}, which the challenge scores",
            "Best first. Dot: NRMSE over windows, line: its 95 % interval, if any; grey line: 1, "
            "always the mean.", of_main, COLUMNS,
        ),
        ScoreTable(
            "All factors",
            "Of the model, beside age and sex alone and the best baseline (NRMSE over windows).",
            _by_factor(scores), FACTOR_COLUMNS, "factor",
        ),
    ]  # fmt: skip
    people = count_of(metrics["n_subjects"], "subject")
    lead = (
        f"The fine-tuned model predicts {named(main)} in {people} it has never seen with an NRMSE "
        f"of {long_text(own(of_main), 'window_nrmse')} over windows. "
        f"{verdict_text(of_main, 'window_nrmse')}"
    )
    return evaluation_page(
        "Challenge 2: psychopathology factors from the EEG",
        lead,
        f"{_about(metrics)} {fitted_text(metrics, scores['method'].unique())} {about}".strip(),
        _cards(of_main, own(of_mean)),
        factor_aims(scores, metrics),
        tables,
        [Picture(*PICTURES[name], figures[name]) for name in PICTURES if name in figures],
        NOTES,
    )


def of_factor(scores: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Rows of one factor, or of the mean, best first."""
    return scores[scores["factor"] == factor].reset_index(drop=True)


def _main(scores: pd.DataFrame) -> str:
    return main_factor(scores["factor"].tolist())


def _by_factor(scores: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for factor in dict.fromkeys(scores["factor"]):
        of_one = of_factor(scores, factor)
        simple = of_one.loc[of_one["method"] == "age_sex", "window_nrmse"]
        best = rival(of_one)
        rows.append(
            {
                **own(of_one).to_dict(),
                "name": "mean of the factors" if factor == MEAN else named(factor),
                "kind": "",
                "age_sex": simple.iloc[0] if len(simple) else float("nan"),
                "best": float("nan") if best is None else best["window_nrmse"],
            }
        )
    return pd.DataFrame(rows)


def _about(metrics: Mapping[str, Any]) -> str:
    return (
        f"{metrics['n_windows']:,} windows of {count_of(metrics['n_subjects'], 'test subject')} in "
        f"{count_of(metrics['n_recordings'], 'recording')}; one prediction per subject by the "
        f"{metrics['aggregation']} of its windows.{about_intervals(metrics)}"
    )


def _cards(of_main: pd.DataFrame, mean: pd.Series) -> list[Card]:
    ours, best = own(of_main), rival(of_main)
    cards = [score_card("NRMSE, windows", ours, "window_nrmse")]
    for _, simple in of_main[of_main["method"] == "age_sex"].iterrows():
        cards.append(score_card("age and sex alone", simple, "window_nrmse"))
    if best is not None:
        cards.append(score_card("ahead of the best baseline by", best, "window_nrmse_ahead"))
    return [
        *cards,
        score_card("r of subjects", ours, "subject_r", 2),
        score_card("r given age and sex", ours, "partial_r", 2),
        score_card("r, mean of all factors", mean, "subject_r", 2),
    ]


def factor_text(scores: pd.DataFrame, metrics: Mapping[str, Any]) -> str:
    """Write the scores and aims as plain text, for the terminal."""
    main = _main(scores)
    of_main = of_factor(scores, main)
    names = ("window_nrmse", "subject_nrmse", "subject_r", "partial_r", "calibration_slope")
    rows = [
        [
            row["name"],
            short_text(row, "window_nrmse"),
            number(row["window_nrmse_ahead"], signed=True),
            *(value_text(row, name, 3 if "nrmse" in name else 2) for name in names[1:]),
        ]
        for _, row in of_main.iterrows()
    ]
    header = ["method", "NRMSE (95 %)", "ahead", "subjects", "r", "partial r", "slope"]
    of_model = scores[scores["method"] == FINE_TUNED]
    own_rows = [
        [named(row["factor"]), *(value_text(row, n, 3 if "nrmse" in n else 2) for n in names)]
        for _, row in of_model.iterrows()
    ]
    aims = [[str(value) for value in row] for row in factor_aims(scores, metrics).to_numpy()]
    return "\n".join(
        [
            table(f"{named(main).capitalize()}. {_about(metrics)}", header, rows),
            fill(fitted_text(metrics, of_main["method"]), WIDTH),
            fill(verdict_text(of_main, "window_nrmse"), WIDTH),
            "",
            table("The model, all factors",
                  ["factor", "NRMSE", "subjects", "r", "partial r", "slope"], own_rows),
            "",
            table("Aims", ["criterion", "aim", "value", "verdict"], aims),
        ]
    )  # fmt: skip
