"""The reports on the challenge's two tasks: response times, and factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.figures.predictions import factor_figure, response_time_figure
from hbn_foundation.evaluation.figures.scores import scores_figure
from hbn_foundation.evaluation.figures.spatial import spatial_figure
from hbn_foundation.evaluation.figures.training import finetuning_figure
from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.methods import FINE_TUNED, REFERENCE
from hbn_foundation.evaluation.params import (
    ChallengeEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.predictions import learned_columns, test_windows
from hbn_foundation.evaluation.report.criteria import (
    criteria_section,
    factor_criteria,
    response_time_criteria,
)
from hbn_foundation.evaluation.report.sections import (
    Column,
    Picture,
    Report,
    Section,
    score_table,
)
from hbn_foundation.evaluation.report.verdicts import (
    about_intervals,
    about_model,
    best_baseline,
    model_row,
    split_verdict,
    with_interval,
)
from hbn_foundation.evaluation.scorers import display_metric
from hbn_foundation.evaluation.spatial_maps import checkpoint_maps
from hbn_foundation.evaluation.tasks.factors import MEAN, main_factor, predicted_factors
from hbn_foundation.evaluation.wording import display_factor, sample_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

MEANING_OF_AHEAD = (
    "How much better the model is than the method, both scored on the same resampled subjects; "
    "below zero the method is better."
)
TIME_COLUMNS = (
    Column("nrmse", interval=True, meaning="Root mean square error over the standard deviation of "
           "the true times, both over all test trials. 1: always the mean; R² = 1 − NRMSE². The "
           "best of 184 entries of the 2025 challenge had .887 on its hidden release, their "
           "median 1.000."),
    Column("nrmse_ahead", interval=True, meaning=MEANING_OF_AHEAD),
    Column("r"),
    Column("within_r", meaning="Pearson's correlation over each subject's own trials, averaged by "
           "Fisher's z with the number of trials less three as weight."),
    Column("mae", "MAE (ms)", 0, 1000),
    Column("r2"),
)  # fmt: skip
SUCCESS_COLUMNS = (
    Column("auroc", interval=True),
    Column("auroc_ahead", interval=True),
    Column("balanced_accuracy", interval=True, meaning="Mean recall of correct and of wrong "
           "trials; a trial is called correct above the share of correct training trials."),
)  # fmt: skip
SUBJECT_COLUMNS = (
    Column("subject_nrmse", "subjects", meaning="NRMSE, as r, with one prediction per subject."),
    Column("subject_r", "r", interval=True),
    Column("partial_r", interval=True, meaning="Over subjects, after linear regression on age and "
           "sex is taken out of truth and prediction. None where nothing is left, or of fewer "
           "than five subjects."),
    Column("calibration_slope", meaning="Of the regression of true on predicted values over "
           "subjects; below 1: predictions spread too far."),
)  # fmt: skip
FACTOR_COLUMNS = (
    Column("window_nrmse", "NRMSE", interval=True, meaning="Root mean square error over the "
           "standard deviation of the true values, both over all test windows, as the challenge "
           "scores externalizing. 1: always the mean. The best of 184 entries of the 2025 "
           "challenge had .978 on its hidden release; age and sex alone have .974 on its "
           "validation release."),
    Column("window_nrmse_ahead", meaning=MEANING_OF_AHEAD),
    *SUBJECT_COLUMNS,
)  # fmt: skip
OF_ALL_COLUMNS = (
    Column("window_nrmse", "NRMSE", interval=True),
    Column("age_sex", "age, sex", 3),
    Column("best", "best baseline", 3),
    *(column._replace(meaning="") for column in SUBJECT_COLUMNS),
)
RESPONSES = "Response times and success"
PICTURES = {
    "scores": ("Scores of all methods", ""),
    "answers": (
        "Predictions",
        "One dot per test trial or subject; dashed: equality, dotted: the mean. Errors below the "
        "dashed line are smaller than those of the mean (red: larger).",
    ),
    "spatial": (
        "Channels that the model relies on",
        "How far a prediction moves when the channels within 30° of a place are hidden.",
    ),
    "training": (
        "Course of the training",
        "Scores are of validation subjects, which chose the epoch that is kept. The training loss "
        "is taken with dropout and hidden channels, so it may lie above; dashed: blocks join.",
    ),
}


def report_challenge(
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    scores: pd.DataFrame,
    metrics: Mapping[str, Any],
    answers: pd.DataFrame,
    history: pd.DataFrame,
    params: ChallengeEvaluationParams,
) -> tuple[Report, dict[str, Figure]]:
    """Draw the figures and declare the report on a model of a challenge.

    Parameters
    ----------
    checkpoint, dataset, params
        What was evaluated, and how.
    scores, metrics, answers
        What the challenge's `score` returned.
    history
        One row per epoch of the training.
    """
    test, ours = test_windows(checkpoint, dataset), answers[answers["method"] == FINE_TUNED]
    if isinstance(params, ResponseTimeEvaluationParams):
        maps = checkpoint_maps(checkpoint, dataset.store, test, factor=1000.0, seed=params.seed)
        spatial, answered = spatial_figure(maps, "ms"), response_time_figure(ours)
        table, of, course = by_method(scores), "Response time and success", RESPONSES
        declare, shown = response_time_report, ("nrmse", "r", "auroc")
    else:
        factors = predicted_factors(answers)
        target_of = {column: name for name, column in learned_columns(checkpoint.metadata).items()}
        targets = tuple(target_of[factor] for factor in factors)
        maps = checkpoint_maps(checkpoint, dataset.store, test, targets, seed=params.seed)
        spatial = spatial_figure(maps, "", tuple(map(display_factor, factors)))
        answered, main = factor_figure(ours, factors), main_factor(factors)
        table, of, course = by_method(scores, main), display_factor(main), "Factors"
        declare, shown = factor_report, ("window_nrmse", "subject_r", "partial_r")
    figures = {
        "scores": scores_figure(table, {name: display_metric(name) for name in shown}, of),
        "answers": answered,
        "spatial": spatial,
        "training": finetuning_figure(history, course),
    }
    return declare(scores, metrics, figures, about_model(checkpoint.metadata)), figures


def response_time_report(
    scores: pd.DataFrame, metrics: Mapping[str, Any], figures: Mapping[str, Figure], about: str = ""
) -> Report:
    """Declare the report on response times and success.

    Parameters
    ----------
    scores, metrics
        Of `score_response_times`.
    figures
        By the names of `PICTURES`.
    about
        Further details, such as the model's run.
    """
    table = by_method(scores)
    by_success = table[table["kind"] != REFERENCE].sort_values(
        "auroc", ascending=False, kind="stable", na_position="last"
    )
    wrong = f"{metrics['n_wrong']} of {metrics['n_success_known']} answers are wrong."
    small_print = (
        f"{count_of(metrics['n_windows'], 'trial')}; mean response time {metrics['rt_mean']:.3f} "
        f"s, sd {metrics['rt_sd']:.3f} s (ddof 0, as in NRMSE); {wrong}"
    )
    sections: list[Section] = [
        score_table("Response time", table, TIME_COLUMNS, "Best first."),
        score_table("Success of the trial", by_success, SUCCESS_COLUMNS, f"Best first. {wrong}"),
        criteria_section(response_time_criteria(table, metrics)),
        *(Picture(*PICTURES[name], figure) for name, figure in figures.items()),
    ]
    title = "Challenge 1: response time and success from the EEG"
    lead = _lead("the response times of", table, "nrmse", metrics)
    return Report(title, lead, _about(small_print, metrics, table, about), sections)


def factor_report(
    scores: pd.DataFrame, metrics: Mapping[str, Any], figures: Mapping[str, Figure], about: str = ""
) -> Report:
    """Declare the report on the factors; parameters as for `response_time_report`."""
    tables = {str(name): by_method(scores, name) for name in scores["target"].unique()}
    main = main_factor(list(tables))
    table, name = tables[main], display_factor(main)
    by_factor = pd.DataFrame([_of_factor(factor, part) for factor, part in tables.items()])
    small_print = (
        f"{count_of(metrics['n_windows'], 'window')}; one prediction per subject by the "
        f"{metrics['aggregation']} of its windows."
    )
    reading = "Of the model, beside age and sex alone and the best baseline (NRMSE over windows)."
    sections: list[Section] = [
        score_table(f"{name.capitalize()}, which the challenge scores", table, FACTOR_COLUMNS,
                    "Best first."),
        score_table("All factors", by_factor, OF_ALL_COLUMNS, reading, first="factor"),
        criteria_section(factor_criteria(by_factor, metrics)),
        *(Picture(*PICTURES[name], figure) for name, figure in figures.items()),
    ]  # fmt: skip
    title = "Challenge 2: psychopathology factors from the EEG"
    lead = _lead(f"{name} in", table, "window_nrmse", metrics)
    return Report(title, lead, _about(small_print, metrics, table, about), sections)


def _of_factor(factor: str, table: pd.DataFrame) -> dict[str, Any]:
    simple = table.loc[table["method"] == "age_sex", "window_nrmse"]
    best = best_baseline(table)
    return {
        **{str(name): value for name, value in model_row(table).items()},
        "factor": factor,
        "name": "mean of the factors" if factor == MEAN else display_factor(factor),
        "kind": "",
        "age_sex": simple.iloc[0] if len(simple) else float("nan"),
        "best": float("nan") if best is None else best["window_nrmse"],
    }


def _lead(what: str, table: pd.DataFrame, main: str, metrics: Mapping[str, Any]) -> str:
    people = count_of(metrics["n_subjects"], "subject")
    score = with_interval(model_row(table), main)
    verdict = split_verdict(table, main)
    return f"The fine-tuned model predicts {what} {people} with an NRMSE of {score}. {verdict}"


def _about(start: str, metrics: Mapping[str, Any], table: pd.DataFrame, about: str) -> str:
    sample = sample_text(metrics, table["method"], fitted=True)
    if "folds" in metrics:
        start += (
            f" Pooled over {count_of(metrics['repeats'], 'repeat')} of {metrics['folds']} folds: "
            "each subject is predicted by models pretrained and fine-tuned without it. A mean over "
            "the others moves against the one left out, so the r of constants is below zero."
        )
        sample = f"Training and validation: mean over folds. {sample}"
        about = f"Maps and course of the training are of the one split. {about}"
    return f"{start} {about_intervals(metrics.get('interval_missing'))} {sample} {about}".strip()
