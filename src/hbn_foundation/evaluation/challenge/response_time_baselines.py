"""What a model of response times must beat, fitted and chosen on the same subjects and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hbn_foundation.evaluation.baselines import SCALED_PER_FEATURE
from hbn_foundation.evaluation.challenge.boosting import fit_boosted_trees
from hbn_foundation.evaluation.challenge.features import (
    BOOSTED,
    Answer,
    WindowFeatures,
    always,
    answer_windows,
)
from hbn_foundation.evaluation.challenge.params import ResponseTimeEvaluationParams
from hbn_foundation.evaluation.challenge.windows import baseline_windows, with_columns
from hbn_foundation.evaluation.demographics import fit_demographics
from hbn_foundation.progress import track
from hbn_foundation.training.linear_probe import Scaling, fit_probe, fit_ridge

if TYPE_CHECKING:
    from hbn_foundation.evaluation.challenge.features import Unlearned
    from hbn_foundation.signals.store import SignalStore

RT, P_CORRECT = "predicted_rt", "p_correct"
WITHOUT_EEG = ("constant", "median", "age_sex")


def response_time_baselines(
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    people: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
    n_samples: int,
    random_encoder: Unlearned | None = None,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Fit all baselines on training windows, choose on validation windows, answer the test windows.

    Parameters
    ----------
    store
        The signals.
    windows
        Trial windows: `row`, `recording`, `subject`, `start`, `rt` in s and `correct` (0, 1, NaN).
    splits
        `subject` and `split`.
    people
        `subject`, `age` and `sex` (0, 1), NaN where unknown.
    params
        Which baselines, and how.
    n_samples
        Length of a window.
    random_encoder
        An encoder with random weights; without one `random_weights` is left out.

    Returns
    -------
    test : pandas.DataFrame
        The test windows with a response time (N rows), in the order of `windows`.
    answers : dict
        By method: `predicted_rt` in s and `p_correct`, the probability of a correct answer, of
        these windows (N rows).

    Raises
    ------
    UserError
        When a split has no window with a response time.
    """
    table = baseline_windows(windows, splits, "rt", params.max_windows, params.seed)
    table = with_columns(table, people, ["age", "sex"])
    tested = table["split"] == "test"
    known, test = table[~tested].reset_index(drop=True), table[tested].reset_index(drop=True)
    features = WindowFeatures(
        params.baselines, store, n_samples, params, random_encoder, params.bin_seconds
    )
    found = features.fit(known)
    methods: list[str] = [m for m in params.baselines if m in WITHOUT_EEG or m in found]
    fits = {
        method: (_fit_times(method, found.get(method), known, params),
                 _fit_success(method, found.get(method), known, params))
        for method in track(methods, "baselines")
    }  # fmt: skip
    answers = answer_windows(fits, features, test)
    return test, {
        name: pd.DataFrame(said, columns=[RT, P_CORRECT]) for name, said in answers.items()
    }


def _fit_times(
    method: str, features: np.ndarray | None, table: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
) -> Answer:  # fmt: skip
    splits, times = table["split"].to_numpy(dtype=str), table["rt"].to_numpy(dtype=float)
    train = splits == "train"
    if method == "age_sex":
        people = fit_demographics(table[train], times[train])
        return lambda _, windows: people.predict(windows)
    if features is None:
        middle = np.median if method == "median" else np.mean
        return always(float(middle(times[train])))
    if method == BOOSTED:
        trees = fit_boosted_trees(features, times, splits, params.boosting, seed=params.seed)
        return lambda inputs, _: trees.predict(inputs)
    ridge = fit_ridge(features, times, splits, params.strengths, _scaling(method))
    return lambda inputs, _: ridge.predict(inputs)


def _fit_success(
    method: str, features: np.ndarray | None, table: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
) -> Answer:  # fmt: skip
    """Fit the probability of a correct answer; the training share where nothing can be learned."""
    splits, correct = table["split"].to_numpy(dtype=str), table["correct"].to_numpy(dtype=float)
    known = ~np.isnan(correct)
    share = training_share(table)
    held = correct[known & (splits == "validation")]
    if method in ("constant", "median") or share in (0, 1) or np.isnan(share) or not len(held):
        return always(share)
    train = known & (splits == "train")
    if method == "age_sex":
        people = fit_demographics(table[train], correct[train], classes=True)
        return lambda _, windows: people.predict(windows)
    assert features is not None
    labels, inputs, parts = correct[known].astype(np.int64), features[known], splits[known]
    if method == BOOSTED:
        trees = fit_boosted_trees(
            inputs, labels, parts, params.boosting, classes=True, seed=params.seed
        )
        return lambda inputs, _: trees.predict(inputs)
    probe = fit_probe(inputs, labels, parts, 2, params.strengths, _scaling(method))

    def answer(inputs: Any, _: pd.DataFrame) -> np.ndarray:
        logs = probe.log_probabilities(inputs)
        # the probe weighs both classes alike; back to how frequent they are
        return expit(logs[:, 1] - logs[:, 0] + logit(share))

    return answer


def training_share(windows: pd.DataFrame) -> float:
    """Share of correct trials among the training windows; NaN where it is known of none."""
    return float(windows.loc[windows["split"] == "train", "correct"].astype(float).mean())


def _scaling(method: str) -> Scaling:
    return "feature" if method in SCALED_PER_FEATURE else "global"
