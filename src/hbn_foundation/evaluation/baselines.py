"""Named baselines of the evaluations, fitted on the same subjects and windows.

Each is fitted on training windows and chosen on validation windows, or on folds of the training
subjects where each subject has one number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.boosting import fit_boosted_trees
from hbn_foundation.evaluation.features import FeatureExtractor, FrozenEncoders
from hbn_foundation.evaluation.methods import (
    ENCODER_INPUT,
    FROZEN_PROBE,
    JOINED,
    PRETRAINED,
    RANDOM,
    SLOW,
)
from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.progress import track
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.linear_probe import (
    Cases,
    Scaling,
    fit_probe,
    fit_ridge,
    majority_log_probabilities,
)

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

MOST_AT_ONCE = 8192
ALONE = ContextParams()
DEMOGRAPHICS = ["age", "sex"]
#: Predictions of windows from their features and their table.
Predict = Callable[[Any, pd.DataFrame], np.ndarray]


class Target(NamedTuple):
    """What is learned about windows.

    A `number` is NaN where unknown, a `class` −1; classes are predicted as log probabilities. A
    `probability` is that of the second of two classes (0, 1, NaN), which are as frequent as among
    the training windows.
    """

    column: str  # of the table of windows
    kind: Literal["number", "class", "probability"] = "number"
    n_classes: int = 0  # that there are
    #: Whether each subject has one value; what takes no EEG then counts each subject once.
    per_subject: bool = False


class Fitted(NamedTuple):
    """A fitted baseline."""

    predict: Predict
    validation: float = np.nan  # score of the validation windows: AUROC or NRMSE
    strength: float = np.nan  # inverse regularisation strength that was chosen


class BaselinePredictions(NamedTuple):
    """What a baseline predicts for the test windows, and for the validation windows."""

    #: For each target: numbers or probabilities (N,), or log probabilities (N, K).
    predictions: tuple[np.ndarray, ...]
    of_validation: tuple[np.ndarray, ...]
    n_features: int  # numbers that the method is fitted on; 0 without EEG
    seconds: float  # for the fits; measuring the windows, which methods share, not counted
    fits: tuple[Fitted, ...]  # of each target


class Measured(NamedTuple):
    """What the windows of methods are measured in."""

    store: SignalStore
    n_samples: int  # of a window
    encoders: FrozenEncoders | None = None  # whose features are among the methods
    context: ContextParams = ALONE  # what is known of a window's surroundings


def predict_baselines(
    methods: Sequence[str],
    table: pd.DataFrame,
    targets: Sequence[Target],
    measured: Measured,
    params: BaselineParams,
) -> dict[str, BaselinePredictions]:
    """Fit baselines on training windows, choose on validation windows, predict the test windows.

    Parameters
    ----------
    methods
        Of `BASELINES`; those that need an encoder which is not given are left out.
    table
        Windows with their `split`, the targets' columns, `stratum` where scores are stratified,
        and, for `age_sex`, `age` and `sex` (0 female, 1 male), NaN where unknown.
    targets
        What is learned.
    measured, params
        What windows are measured in; bands, strengths, shrinkage, seed.

    Returns
    -------
    dict
        By method, for the test and for the validation windows in the order of the table.
    """
    wanted = {name for method in methods if (name := BASELINES[method].features)}
    store, n_samples, encoders, context = measured
    extractor = FeatureExtractor(wanted, store, n_samples, params, encoders, context=context)
    tested = (table["split"] == "test").to_numpy()
    learned, test = (table[rows].reset_index(drop=True) for rows in (~tested, tested))
    features: dict[str | None, np.ndarray] = {None: np.empty((len(learned), 0))}
    features.update(extractor.fit(learned))
    fits: dict[str, tuple[Fitted, ...]] = {}
    seconds = {}
    for method in track([m for m in methods if BASELINES[m].features in features], "baselines"):
        start, baseline = time.perf_counter(), BASELINES[method]
        fits[method] = tuple(
            fit_baseline(method, features[baseline.features], learned, target, params)
            for target in targets
        )
        seconds[method] = time.perf_counter() - start
    each = {(method, place): (method, one) for method, of_method in fits.items()
            for place, one in enumerate(of_method)}  # fmt: skip
    found = predict_in_parts(each, extractor, test)
    held = (learned["split"] == "validation").to_numpy()
    answers = {}
    for method, of_method in fits.items():
        inputs = features[BASELINES[method].features]
        of_held = tuple(one.predict(inputs[held], learned[held]) for one in of_method)
        of_test = tuple(found[method, place] for place in range(len(of_method)))
        answers[method] = BaselinePredictions(
            of_test, of_held, inputs.shape[1], seconds[method], of_method
        )
    return answers


def fit_baseline(
    method: str, features: np.ndarray, table: pd.DataFrame, target: Target, params: BaselineParams
) -> Fitted:
    """Fit one of `BASELINES` on features (N, D) and the table of their windows (N rows).

    A constant where a probability cannot be learned or its strength chosen.
    """
    if target.kind == "probability":
        held = table.loc[table["split"] == "validation", target.column]
        if not 0 < training_share(table, target.column) < 1 or held.isna().all():
            return _constant(features, table, target, params)
    return BASELINES[method].fit(features, table, target, params)


def predict_in_parts(
    fits: Mapping[Any, tuple[str, Fitted]], extractor: FeatureExtractor, test: pd.DataFrame
) -> dict[Any, np.ndarray]:
    """Predict a few thousand windows at a time, so that their features need little memory.

    Each fit is given with its method, and its predictions are returned under the same key.
    """
    parts: dict[Any, list[np.ndarray]] = {key: [] for key in fits}
    for first in range(0, len(test), MOST_AT_ONCE):
        windows = test.iloc[first : first + MOST_AT_ONCE]
        found = extractor(windows)
        for key, (method, fitted) in fits.items():
            inputs = found.get(BASELINES[method].features or "")
            parts[key].append(fitted.predict(inputs, windows))
    return {key: np.concatenate(part) for key, part in parts.items()}


def _known(table: pd.DataFrame, target: Target) -> np.ndarray:
    """Which windows (N,) have a value."""
    column = table[target.column]
    return (column >= 0 if target.kind == "class" else column.notna()).to_numpy()


def _training(table: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Training windows with a value, or one for each subject."""
    training = table[(table["split"] == "train") & _known(table, target)]
    return training.drop_duplicates("subject") if target.per_subject else training


def _constant(
    features: np.ndarray, table: pd.DataFrame, target: Target, params: BaselineParams,
    middle: Callable[[np.ndarray], Any] = np.mean,
) -> Fitted:  # fmt: skip
    """Predict the same for all windows: mean or median, or how frequent the classes are."""
    values = _training(table, target)[target.column].to_numpy()
    if target.kind == "class":
        shares = majority_log_probabilities(values, target.n_classes, 1)
        return Fitted(lambda _, windows: np.tile(shares, (len(windows), 1)))
    value = float((np.mean if target.kind == "probability" else middle)(values))
    return Fitted(lambda _, windows: np.full(len(windows), value))


def _demographics(
    features: np.ndarray, table: pd.DataFrame, target: Target, params: BaselineParams
) -> Fitted:
    """Regress on age and sex alone; where one is unknown its mean is taken."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline

    training = _training(table, target)
    people = training[DEMOGRAPHICS].to_numpy(dtype=float)
    if np.isnan(people).all():
        raise UserError(
            "participants: age and sex of no training subject are known; take age_sex out of the "
            "baselines"
        )
    of_classes = target.kind == "probability"
    model = make_pipeline(
        SimpleImputer(keep_empty_features=True),
        LogisticRegression(C=1e6, max_iter=1000) if of_classes else LinearRegression(),
    ).fit(people, training[target.column].to_numpy())

    def predict(_: Any, windows: pd.DataFrame) -> np.ndarray:
        people = windows[DEMOGRAPHICS].to_numpy(dtype=float)
        return model.predict_proba(people)[:, 1] if of_classes else model.predict(people)

    return Fitted(predict)


def _linear(
    features: np.ndarray, table: pd.DataFrame, target: Target, params: BaselineParams,
    scaling: Scaling = "global",
) -> Fitted:  # fmt: skip
    """Fit a ridge regression of numbers, a balanced logistic regression of classes."""
    known = _known(table, target)
    inputs, values = features[known], table.loc[known, target.column].to_numpy()
    splits, subjects = (table.loc[known, name].to_numpy(str) for name in ("split", "subject"))
    if target.kind == "number":
        ridge = fit_ridge(inputs, values, splits, params.strengths, scaling, subjects)
        return Fitted(lambda x, _: ridge.predict(x), ridge.validation_nrmse, ridge.strength)
    n_classes = target.n_classes or 2
    strata = table.loc[known, STRATUM].to_numpy() if STRATUM in table else None
    cases = Cases(values.astype(np.int64), splits, subjects, strata)
    probe = fit_probe(inputs, cases, n_classes, params.strengths, scaling)

    def probability(inputs: Any, _: pd.DataFrame) -> np.ndarray:
        logs = probe.log_probabilities(inputs)
        # the probe weighs both classes alike; back to how frequent they are
        return np.asarray(expit(logs[:, 1] - logs[:, 0] + logit(training_share(table))))

    predict: Predict = probability
    if target.kind == "class":
        predict = lambda x, _: probe.log_probabilities(x)  # noqa: E731
    return Fitted(predict, probe.validation_auroc, probe.strength)


def _boosted(
    features: np.ndarray, table: pd.DataFrame, target: Target, params: BaselineParams
) -> Fitted:
    known, classes = _known(table, target), target.kind == "probability"
    values, splits = (table.loc[known, name].to_numpy() for name in (target.column, "split"))
    trees = fit_boosted_trees(features[known], values, splits, classes, params.seed)
    return Fitted(lambda inputs, _: trees.predict(inputs), trees.validation_error)


def training_share(windows: pd.DataFrame, column: str = "correct") -> float:
    """Share of correct trials among the training windows; NaN where it is known of none."""
    return float(windows.loc[windows["split"] == "train", column].astype(float).mean())


class Baseline(NamedTuple):
    """How a baseline is fitted, and on which features; None: without EEG."""

    fit: Callable[[np.ndarray, pd.DataFrame, Target, BaselineParams], Fitted]
    features: str | None = None


BASELINES = {
    "constant": Baseline(_constant),
    "majority": Baseline(_constant),
    "median": Baseline(partial(_constant, middle=np.median)),
    "age_sex": Baseline(_demographics),
    # band powers differ in kind from channel to channel; all else keeps its variances
    "band_power": Baseline(partial(_linear, scaling="feature"), "band_power"),
    "boosted_trees": Baseline(_boosted, "time_bins"),
    **{
        name: Baseline(_linear, name)
        for name in (
            "filter_bank", "riemann", "time_bins", PRETRAINED, FROZEN_PROBE, RANDOM,
            ENCODER_INPUT, SLOW, JOINED,
        )
    },
}  # fmt: skip
