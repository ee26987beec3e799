"""The report on response times: figures, page and the same in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.challenge.aims import response_time_aims
from hbn_foundation.evaluation.challenge.learning_curve import learning_curve_figure
from hbn_foundation.evaluation.challenge.page import (
    Card,
    Column,
    Picture,
    ScoreTable,
    evaluation_page,
    score_card,
)
from hbn_foundation.evaluation.challenge.response_time_figures import (
    answers_figure,
    within_subject_figure,
)
from hbn_foundation.evaluation.challenge.scoring import REFERENCE
from hbn_foundation.evaluation.challenge.spatial_figure import spatial_figure
from hbn_foundation.evaluation.challenge.wording import (
    AHEAD,
    BASELINES_OF_TIMES,
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
from hbn_foundation.evaluation.finetuning_figures import finetuning_figure
from hbn_foundation.evaluation.report import WIDTH, table
from hbn_foundation.evaluation.sample import fitted_text
from hbn_foundation.evaluation.statistics import count_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hbn_foundation.evaluation.challenge.spatial import SpatialMaps
    from hbn_foundation.signals.store import SignalStore

COLUMNS = (
    Column("nrmse", "NRMSE", interval=True, drawn=True, at=1.0),
    Column("nrmse_ahead", "model ahead by", interval=True, signed=True),
    Column("r", "r", 2),
    Column("within_r", "r inside subjects", 2),
    Column("mae", "MAE (ms)", 0, 1000),
    Column("r2", "R²", 2),
)
SUCCESS_COLUMNS = (
    Column("auroc", "AUROC", interval=True, drawn=True, at=0.5),
    Column("auroc_ahead", "model ahead by", interval=True, signed=True),
    Column("balanced_accuracy", "balanced accuracy", 2, interval=True),
)
PICTURES = {
    "answers": (
        "What the model answers",
        "Left: each test trial; dashed: right, dotted: the mean. Middle: slow presses are expected "
        "too early and fast ones too late; the flatter the curve, the more the EEG has told. "
        "Right: root mean square error of each subject; below the line the model is better than "
        "always answering the mean (red: worse).",
    ),
    "within_subject": (
        "Inside each subject",
        "Correlation over a subject's own trials: what is known about trials, with nothing of who "
        "is slow or fast. Dashed: mean by Fisher's z, weighted by the number of trials.",
    ),
    "spatial": (
        "Where on the scalp it looks",
        "First: how far the prediction moves when the channels around a place are hidden. Others: "
        "the learned components that matter most, as patterns (where the sources are that a "
        "component picks up, not its weights), with the shift of the prediction when it is taken "
        "out.",
    ),
    **OF_BOTH,
}
NOTES = (
    ("NRMSE", "Root mean square error over the standard deviation of the true times, both over all "
     "test trials. 1: always the mean; R² = 1 − NRMSE². The best of 184 entries of the 2025 "
     "challenge had .887 on its hidden release, their median 1.000."),
    ("model ahead by", AHEAD),
    ("r inside subjects", "Pearson's correlation over each subject's own trials, averaged by "
     "Fisher's z with the number of trials less three as weight."),
    ("balanced accuracy", "Mean share of right answers among correct and among wrong trials, at "
     "the threshold that the parameters name."),
    ("intervals", INTERVALS),
    ("baselines", BASELINES_OF_TIMES),
)  # fmt: skip


def response_time_figures(
    predictions: pd.DataFrame,
    store: SignalStore,
    history: pd.DataFrame | None = None,
    maps: SpatialMaps | None = None,
    learning_curve: pd.DataFrame | None = None,
) -> dict[str, Figure]:
    """Draw all figures of the report.

    Parameters
    ----------
    predictions
        Of the model, one row per test trial: `recording`, `subject`, `start`, `rt`,
        `predicted_rt`.
    store
        The signals.
    history
        One row per epoch of the training.
    maps
        Of `spatial_maps`, in ms.
    learning_curve
        See `learning_curve_figure`.

    Returns
    -------
    dict
        By name, those that can be drawn of `answers`, `within_subject`, `spatial`,
        `learning_curve`, `training`.
    """
    figures = {
        "answers": answers_figure(predictions),
        "within_subject": within_subject_figure(predictions),
    }
    if maps is not None:
        figures["spatial"] = spatial_figure(maps, store.positions, "ms")
    if learning_curve is not None and len(learning_curve):
        figures["learning_curve"] = learning_curve_figure(learning_curve)
    if history is not None:
        figures["training"] = finetuning_figure(history, "Response times and success")
    return figures


def response_time_page(
    scores: pd.DataFrame, metrics: Mapping[str, Any], figures: Mapping[str, Figure], about: str = ""
) -> str:
    """Write the report as one HTML page.

    Parameters
    ----------
    scores, metrics
        Of `evaluate_response_times`.
    figures
        Of `response_time_figures`.
    about
        What the model is, for the small print: its version, its data.
    """
    ours = own(scores)
    fair = scores[scores["kind"] != REFERENCE]
    by_success = fair.sort_values("auroc", ascending=False, kind="stable", na_position="last")
    tables = [
        ScoreTable(
            "Response time",
            "Best first. Dot: NRMSE, line: its 95 % interval, if any; grey line: 1, always the "
            "mean.", scores, COLUMNS,
        ),
        ScoreTable(
            "Success of the trial",
            f"Best first. Whether the answer was correct, from the same windows, of which "
            f"{metrics['n_wrong']} have a wrong one; grey line: .5, chance.",
            by_success,
            SUCCESS_COLUMNS,
        ),
    ]  # fmt: skip
    people = count_of(metrics["n_subjects"], "subject")
    lead = (
        f"The fine-tuned model predicts the response times of {people} it has never seen with an "
        f"NRMSE of {long_text(ours, 'nrmse')}. {verdict_text(scores, 'nrmse')}"
    )
    return evaluation_page(
        "Challenge 1: response time and success from the EEG",
        lead,
        f"{_about(metrics)} {fitted_text(metrics, scores['method'])} {about}".strip(),
        _cards(scores, ours),
        response_time_aims(scores, metrics),
        tables,
        [Picture(*PICTURES[name], figures[name]) for name in PICTURES if name in figures],
        NOTES,
    )


def _about(metrics: Mapping[str, Any]) -> str:
    return (
        f"{metrics['n_windows']:,} trials of {count_of(metrics['n_subjects'], 'test subject')} in "
        f"{count_of(metrics['n_recordings'], 'recording')}; mean response time "
        f"{metrics['rt_mean']:.3f} s, sd {metrics['rt_sd']:.3f} s (ddof 0, as in NRMSE); "
        f"{metrics['n_wrong']} of {metrics['n_success_known']} answers wrong."
        f"{about_intervals(metrics)}"
    )


def _cards(scores: pd.DataFrame, ours: pd.Series) -> list[Card]:
    best = rival(scores)
    cards = [score_card("NRMSE (1: the mean)", ours, "nrmse")]
    if best is not None:
        cards += [
            Card("best baseline", value_text(best, "nrmse"), best["name"]),
            score_card("ahead of it by", best, "nrmse_ahead"),
        ]
    return [
        *cards,
        score_card("Pearson r", ours, "r", 2),
        score_card("r inside subjects", ours, "within_r", 2),
        score_card("AUROC of success", ours, "auroc", 2),
    ]


def response_time_text(scores: pd.DataFrame, metrics: Mapping[str, Any]) -> str:
    """Write the scores and aims as plain text, for the terminal."""
    rows = [
        [
            row["name"] + (" †" if row["kind"] == REFERENCE else ""),
            short_text(row, "nrmse"),
            number(row["nrmse_ahead"], signed=True),
            value_text(row, "r", 2),
            value_text(row, "within_r", 2),
            value_text(row, "mae", 0, 1000),
            value_text(row, "auroc", 2),
            value_text(row, "balanced_accuracy", 2),
        ]
        for _, row in scores.iterrows()
    ]
    header = ["method", "NRMSE (95 %)", "model ahead", "r", "r inside", "MAE ms", "AUROC",
              "balanced"]  # fmt: skip
    title = f"Response times and success. {_about(metrics)}"
    aims = [[str(value) for value in row] for row in response_time_aims(scores, metrics).to_numpy()]
    return "\n".join(
        [
            table(title, header, rows),
            "† no fair method: it knows the test subjects' own answers.",
            "r inside: within each subject; AUROC and balanced accuracy are of success.",
            fill(fitted_text(metrics, scores["method"]), WIDTH),
            fill(verdict_text(scores, "nrmse"), WIDTH),
            "",
            table("Aims", ["criterion", "aim", "value", "verdict"], aims),
        ]
    )
