"""Evaluate a model of response times and success of trials: challenge 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.baselines import DEMOGRAPHICS, Target, training_share
from hbn_foundation.evaluation.evaluate import (
    Answers,
    Evaluation,
    Named,
    Task,
    about_scores,
    evaluate,
    plain,
)
from hbn_foundation.evaluation.frame import scores_of
from hbn_foundation.evaluation.methods import FINE_TUNED, display_name
from hbn_foundation.evaluation.params import ResponseTimeEvaluationParams
from hbn_foundation.evaluation.sample import with_columns
from hbn_foundation.evaluation.scorers import OF_NUMBERS, SCORERS
from hbn_foundation.evaluation.statistics import Part
from hbn_foundation.evaluation.tasks.challenge_baselines import Asked
from hbn_foundation.labels.participants import factor_table
from hbn_foundation.progress import say
from hbn_foundation.scores import auroc, balanced_accuracy, group_fisher_z, mean_r

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset


RT, P_CORRECT = "predicted_rt", "p_correct"
TIMES = (Target("rt"), Target("correct", "probability"))


def asked_times(dataset: EEGDataset) -> Asked:
    """Ask for response times, and for success, a probability.

    The truth is `rt` in s, `correct`, and the `threshold` above which a trial is called correct,
    the share of correct trials among the training windows.
    """
    windows = with_columns(dataset.windows, factor_table(dataset.participants), DEMOGRAPHICS)
    split_of = windows["subject"].map(dataset.splits.set_index("subject")["split"])
    windows["threshold"] = training_share(windows.assign(split=split_of))
    known = windows["rt"].notna().to_numpy()
    return Asked(windows, known, "rt", TIMES, [RT, P_CORRECT], ["rt", "correct", "threshold"])


def score_response_times(answers: Answers, params: ResponseTimeEvaluationParams) -> Evaluation:
    """Score the answers of one split, or of the folds of several.

    Parameters
    ----------
    answers
        Of `asked_times`.
    params
        Resamplings for the intervals.

    Returns
    -------
    Evaluation
        Predictions: the answers, and those of the references.
    """
    methods = answers.by_method()
    test = methods[FINE_TUNED]
    columns = test.drop(columns=["method", RT, P_CORRECT])
    references = {name: table.assign(method=name).join(columns)
                  for name, table in reference_answers(test).items()}  # fmt: skip
    scores = evaluate(
        response_time_task(test, test["threshold"].to_numpy(float)), methods, {}, references,
        n_samples=params.bootstraps, seed=params.seed,
    )  # fmt: skip
    of_success = scores_of(scores, "auroc")
    for name, value in scores_of(scores, "nrmse").items():
        say(f"{display_name(name)}: NRMSE {value:.3f}, AUROC of success {of_success[name]:.3f}")
    metrics = {
        **about_scores(scores, test, answers.about),
        "rt_mean": float(test["rt"].mean()),
        "rt_sd": float(test["rt"].std(ddof=0)),
        "n_success_known": int(test["correct"].notna().sum()),
        "n_wrong": int((test["correct"] == 0).sum()),
        "success_threshold": float(test["threshold"].mean()),
    }
    every = pd.concat([answers.table, *references.values()], ignore_index=True)
    return Evaluation(plain(metrics), scores, every)


def response_time_task(test: pd.DataFrame, threshold: float | np.ndarray) -> Task:
    """Score response times and success.

    Parameters
    ----------
    test
        `subject`, `rt` in s and `correct` (0, 1, NaN) of windows (N rows).
    threshold
        Probability above which a trial is called correct, of all windows or of each (N,).

    Returns
    -------
    Task
        Of `predicted_rt` and `p_correct` of the same windows, NaN where not predicted. Metrics of
        `rt`: `nrmse` (root mean square error over the standard deviation of the true times, both
        over all windows, ddof 0, as the challenge has it), `r`, `mae` (s), `r2` and `within_r`
        (Pearson's r inside subjects, averaged by Fisher's z); of `correct`: `auroc` and
        `balanced_accuracy`.
    """
    subjects = test["subject"].to_numpy(dtype=object)
    times = test["rt"].to_numpy(float)
    thresholds = np.broadcast_to(threshold, len(test))

    def parts(answer: pd.DataFrame) -> list[Part]:
        predicted = answer[RT].to_numpy(float)
        z, weights = group_fisher_z(times, predicted, subjects)
        known = (test["correct"].notna() & answer[P_CORRECT].notna()).to_numpy()
        correct = test.loc[known, "correct"].to_numpy(float).astype(np.int64)
        p_correct = answer.loc[known, P_CORRECT].to_numpy(float)

        def of_times(chosen: np.ndarray) -> Named:
            return {
                ("rt", name): SCORERS[name].function(times[chosen], predicted[chosen])
                for name in OF_NUMBERS
            }

        def within(chosen: np.ndarray) -> Named:
            return {("rt", "within_r"): mean_r(z[chosen], weights[chosen])}

        def of_success(chosen: np.ndarray) -> Named:
            limits = thresholds[known][chosen]
            found = success_scores(correct[chosen], p_correct[chosen], limits)
            return {("correct", name): value for name, value in found.items()}

        names = np.unique(subjects.astype(str))
        return [
            Part(subjects, of_times, len(test)),
            Part(names, within, len(test)),
            Part(subjects[known], of_success, int(known.sum())),
        ]

    return Task(FINE_TUNED, parts, "nrmse", ("nrmse", "auroc"))


def success_scores(
    correct: np.ndarray, p_correct: np.ndarray, threshold: float | np.ndarray
) -> dict[str, float]:
    """AUROC and balanced accuracy of success (N,) from its probability (N,)."""
    order = np.column_stack([np.zeros(len(p_correct)), p_correct])
    called = (p_correct > threshold).astype(np.int64)
    return {
        "auroc": auroc(correct, order),
        "balanced_accuracy": balanced_accuracy(correct, called),
    }


def reference_answers(test: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predict from the subject's own answers instead of the EEG, for orientation.

    Returns
    -------
    dict
        `subject_mean`: each subject's mean over the very trials that are scored;
        `other_runs_mean`: the mean over the subject's other runs, where there are others, and
        else over all subjects.
    """
    trials = test.groupby("subject")[["rt", "correct"]]
    own = trials.transform("mean")
    total, count = trials.transform("sum"), trials.transform("count")
    runs = test.groupby(["subject", "recording"])[["rt", "correct"]]
    left = count - runs.transform("count")
    other = (total - runs.transform("sum")) / left.where(left > 0)
    other = other.fillna(test[["rt", "correct"]].mean())
    tables = {"subject_mean": own, "other_runs_mean": other}
    columns = {"rt": RT, "correct": P_CORRECT}
    return {name: table.rename(columns=columns) for name, table in tables.items()}
