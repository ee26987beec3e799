"""Challenge 1 evaluated: response times and success of trials, baselines beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.challenge.response_time_baselines import (
    P_CORRECT,
    RT,
    response_time_baselines,
    training_share,
)
from hbn_foundation.evaluation.challenge.scoring import (
    BASELINE,
    MODEL,
    REFERENCE,
    best_first,
    score_row,
)
from hbn_foundation.evaluation.challenge.windows import matched
from hbn_foundation.evaluation.foundation import plain
from hbn_foundation.evaluation.methods import FINE_TUNED, written
from hbn_foundation.evaluation.sample import count_sample
from hbn_foundation.evaluation.statistics import Part, Score, score_parts
from hbn_foundation.labels.checks import check_disjoint
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.evaluation.challenge.features import Unlearned
    from hbn_foundation.evaluation.challenge.params import ResponseTimeEvaluationParams
    from hbn_foundation.signals.store import SignalStore

MAIN = "nrmse"
COMPARED = ("nrmse", "auroc")
REFERENCES = ("subject_mean", "other_runs_mean")


class ResponseTimeScores(NamedTuple):
    """What the evaluation of response times gives.

    Attributes
    ----------
    metrics
        Everything that is a number, ready for JSON.
    scores
        One row per method, best first: `method`, `name`, `kind` (model, baseline, reference),
        each score with `_low` and `_high`, how far the model is ahead with `_low` and `_high`.
    answers
        Long table of what every method says of every test window: `method`, `recording`,
        `subject`, `start`, `rt`, `predicted_rt`, `correct`, `p_correct`.
    """

    metrics: dict[str, Any]
    scores: pd.DataFrame
    answers: pd.DataFrame


def evaluate_response_times(
    predictions: pd.DataFrame,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    people: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
    n_samples: int,
    random_encoder: Unlearned | None = None,
    others: Mapping[str, pd.DataFrame] | None = None,
) -> ResponseTimeScores:
    """Score predicted response times and success on the test subjects, baselines beside them.

    Parameters
    ----------
    predictions
        Of the model: `recording`, `start`, `predicted_rt` in s and, where it predicts success,
        `p_correct`; one row per test window.
    store, windows, splits, people, params, n_samples, random_encoder
        See `response_time_baselines`.
    others
        Predictions of further models by name, such as `scratch`.

    Returns
    -------
    ResponseTimeScores

    Raises
    ------
    UserError
        When a subject is in two splits, a split has no window, or predictions and test windows
        are not the same.
    """
    check_disjoint(splits)
    test, answers = response_time_baselines(
        store, windows, splits, people, params, n_samples, random_encoder
    )
    kinds = dict.fromkeys(answers, BASELINE)
    given = {FINE_TUNED: predictions, **(others or {})}
    models = {name: model_answers(table, test, name) for name, table in given.items()}
    references = reference_answers(test)
    answers = {**models, **answers, **references}
    kinds |= {FINE_TUNED: MODEL, **dict.fromkeys(others or {}, BASELINE)}
    kinds |= dict.fromkeys(references, REFERENCE)
    training = windows.assign(split=windows["subject"].map(splits.set_index("subject")["split"]))
    share = training_share(training)
    threshold = share if params.success_threshold is None else params.success_threshold
    found = {
        name: response_time_scores(test, answer, threshold, params.bootstraps, params.seed)
        for name, answer in answers.items()
    }
    table = _score_table(found, kinds)
    for _, row in table.iterrows():
        say(f"{row['name']}: NRMSE {row['nrmse']:.3f}, AUROC of success {row['auroc']:.3f}")
    known = training[training["rt"].notna()]
    metrics = _metrics(found, test, share, threshold) | {
        "sample": count_sample(known["split"], known["subject"], params.max_windows),
        "n_channels": len(store.positions),
    }
    return ResponseTimeScores(metrics, table, _long(test, answers))


def response_time_scores(
    test: pd.DataFrame, answer: pd.DataFrame, threshold: float, bootstraps: int, seed: int = 0
) -> dict[str, Score]:
    """Score one method, with intervals over subjects.

    Parameters
    ----------
    test
        `subject`, `rt` in s and `correct` (0, 1, NaN) of windows (N rows).
    answer
        `predicted_rt` and `p_correct` of the same windows; NaN where not predicted.
    threshold
        Probability above which a trial is called correct.
    bootstraps, seed
        Resamplings of whole subjects, and which ones.

    Returns
    -------
    dict
        `nrmse` (root mean square error over the standard deviation of the true times, both over
        all windows, ddof 0, as the challenge has it), `r` (Pearson), `mae` (s), `r2`; `within_r`
        (Pearson inside subjects, averaged by Fisher's z); `auroc` and `balanced_accuracy` of
        success.
    """
    subjects = test["subject"].to_numpy(dtype=object)
    times, predicted = test["rt"].to_numpy(float), answer[RT].to_numpy(float)
    z, weights = scores.group_fisher_z(times, predicted, subjects)
    names = np.unique(subjects.astype(str))
    known = (test["correct"].notna().to_numpy()) & answer[P_CORRECT].notna().to_numpy()
    correct = test.loc[known, "correct"].to_numpy(float).astype(np.int64)
    p_correct = answer.loc[known, P_CORRECT].to_numpy(float)

    def of_times(chosen: np.ndarray) -> dict[str, float]:
        return {
            name: score(times[chosen], predicted[chosen])
            for name, score in (("nrmse", scores.nrmse), ("r", scores.pearson_r),
                                ("mae", scores.mae), ("r2", scores.r2))
        }  # fmt: skip

    def within(chosen: np.ndarray) -> dict[str, float]:
        return {"within_r": scores.mean_r(z[chosen], weights[chosen])}

    def of_success(chosen: np.ndarray) -> dict[str, float]:
        return success_scores(correct[chosen], p_correct[chosen], threshold)

    parts = [Part(subjects, of_times), Part(names, within), Part(subjects[known], of_success)]
    return score_parts(parts, bootstraps, seed)


def success_scores(
    correct: np.ndarray, p_correct: np.ndarray, threshold: float
) -> dict[str, float]:
    """AUROC and balanced accuracy of success (N,) from its probability (N,)."""
    order = np.column_stack([np.zeros(len(p_correct)), p_correct])
    called = (p_correct > threshold).astype(np.int64)
    return {
        "auroc": scores.auroc(correct, order),
        "balanced_accuracy": scores.balanced_accuracy(correct, called),
    }


def reference_answers(test: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predict without any EEG from the subject's own answers, which is no fair method.

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
    columns = {"rt": RT, "correct": P_CORRECT}
    tables = dict(zip(REFERENCES, (own, other), strict=True))
    return {name: table.rename(columns=columns) for name, table in tables.items()}


def model_answers(predictions: pd.DataFrame, test: pd.DataFrame, name: str) -> pd.DataFrame:
    """Bring a model's predictions into the order of the test windows.

    Parameters
    ----------
    predictions
        As of `predict_response_times`; `p_correct` may be missing, or nowhere known.
    test
        The windows that are scored (N rows).
    name
        Of the model, for messages.

    Returns
    -------
    pandas.DataFrame
        `predicted_rt` and `p_correct` (N rows); the latter NaN where success is not predicted.
    """
    success = P_CORRECT in predictions and predictions[P_CORRECT].notna().any()
    columns = [RT, P_CORRECT] if success else [RT]
    table = matched(predictions, test, columns, f"predictions of {written(name)}")
    return table.reindex(columns=[RT, P_CORRECT])


def _score_table(found: dict[str, dict[str, Score]], kinds: dict[str, str]) -> pd.DataFrame:
    ours = found[FINE_TUNED]
    rows = []
    for name, of_method in found.items():
        reference = None if name == FINE_TUNED else ours
        row = {"method": name, "name": written(name), "kind": kinds[name]}
        rows.append(row | score_row(of_method, reference, COMPARED))
    return best_first(pd.DataFrame(rows), MAIN)


def _metrics(
    found: dict[str, dict[str, Score]], test: pd.DataFrame, share: float, threshold: float
) -> dict[str, Any]:
    metrics = {name: score_row(of_method, None, ()) for name, of_method in found.items()}
    return plain(
        {
            "test": metrics,
            "n_windows": len(test),
            "n_subjects": test["subject"].nunique(),
            "n_recordings": test["recording"].nunique(),
            "rt_mean": float(test["rt"].mean()),
            "rt_sd": float(test["rt"].std(ddof=0)),
            "n_success_known": int(test["correct"].notna().sum()),
            "n_wrong": int((test["correct"] == 0).sum()),
            "interval_missing": next(iter(found[FINE_TUNED].values())).interval.missing,
            "training_share_correct": share,
            "success_threshold": threshold,
        }
    )


def _long(test: pd.DataFrame, answers: dict[str, pd.DataFrame]) -> pd.DataFrame:
    columns = ["recording", "subject", "start", "rt", "correct"]
    parts = [
        pd.concat([test[columns], answer], axis=1).assign(method=name)
        for name, answer in answers.items()
    ]
    return pd.concat(parts, ignore_index=True)
