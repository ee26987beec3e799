"""Scores of classes and of numbers, from arrays alone, and which of them training follows.

What validation follows during training and what an evaluation reports is computed here, once. The
name of a score alone is of the validation subjects; with `train_` before it, of the training
subjects, as they were answered while the model learned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hbn_foundation.errors import UserError

TRAIN = "train_"
CLASSIFICATION_METRICS = ("loss", "f1", "balanced_accuracy", "auroc", "accuracy", "fisher_ratio")
REGRESSION_METRICS = ("loss", "nrmse", "r", "mae", "r2")
LOWER_IS_BETTER = ("loss", "nrmse", "mae")
WITHIN = "within_auroc"
"""Of classes, where scores are stratified."""
DRIFT = "drift_"
"""With a number from 1 on: how well time alone predicts that slow output."""

_ON_VALIDATION = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS[1:])
#: Made from features, which training does not keep.
_NOT_IN_TRAINING = ("fisher_ratio",)
_IN_TRAINING = tuple(TRAIN + name for name in _ON_VALIDATION if name not in _NOT_IN_TRAINING)
KNOWN_METRICS = (*_ON_VALIDATION, *_IN_TRAINING)

ALMOST_ONE = 1 - 1e-6
"""Correlations are taken for no nearer to one, where Fisher's z has no end."""


def auroc(labels: np.ndarray, log_probabilities: np.ndarray) -> float:
    """Area under the ROC curve; one class against the rest, averaged, for more than two classes.

    Takes the classes (N,) of the items as integers, and the logarithm of each class's probability
    (N, K). NaN when there are items of one class only; classes that do not occur are left out of
    the average.
    """
    log_probabilities = np.round(log_probabilities, 9)  # ties stay ties after pooling
    if log_probabilities.shape[1] == 2:
        return _area(labels == 1, log_probabilities[:, 1] - log_probabilities[:, 0])
    areas = [_area(labels == k, log_probabilities[:, k]) for k in range(log_probabilities.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else np.nan


def _area(positive: np.ndarray, values: np.ndarray) -> float:
    """Area by ranks, ties counted half; scikit-learn's checks would take most of a bootstrap."""
    from scipy.stats import rankdata

    n, n_positive = len(positive), int(positive.sum())
    if n_positive in (0, n):
        return np.nan
    above = rankdata(values)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (n - n_positive)))


def subject_scores(
    score: Callable[..., float], labels: np.ndarray, predictions: np.ndarray, subjects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Names (S,) of the subjects, and the score (S,) of each over its own items.

    What differs between subjects does not enter.
    """
    names, codes = np.unique(np.asarray(subjects).astype(str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    inside = np.split(order, np.cumsum(np.bincount(codes))[:-1]) if len(names) else []
    return names, np.array([score(labels[part], predictions[part]) for part in inside])


def subject_aurocs(
    labels: np.ndarray, log_probabilities: np.ndarray, subjects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Names (S,) of the subjects, and the AUROC (S,) of each, NaN where it has one class."""
    return subject_scores(auroc, labels, log_probabilities, subjects)


def stratified_mean(values: np.ndarray, strata: np.ndarray, n_strata: int) -> float:
    """Mean over strata of the means of the values (S,) in each; strata (S,) count from 0.

    NaN where a stratum has no value.
    """
    counts = np.bincount(strata, minlength=n_strata)
    if not len(values) or not counts.all():
        return np.nan
    return float((np.bincount(strata, values, n_strata) / counts).mean())


def within_auroc(
    labels: np.ndarray, log_probabilities: np.ndarray, subjects: np.ndarray, strata: np.ndarray
) -> float:
    """AUROC within subjects, averaged over the subjects of a stratum, then over the strata.

    Subjects and strata are of the items (N,). Subjects with items of one class are left out; NaN
    where all are.
    """
    names, areas = subject_aurocs(labels, log_probabilities, subjects)
    stratum_of = dict(zip(np.asarray(subjects).astype(str), strata, strict=True))
    known = ~np.isnan(areas)
    there, codes = np.unique([str(stratum_of[name]) for name in names[known]], return_inverse=True)
    return stratified_mean(areas[known], codes, len(there))


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Share of right answers; NaN without items."""
    return float((labels == predicted).mean()) if len(labels) else np.nan


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean share of right answers over the classes that occur; NaN when fewer than two do."""
    shares = [(predicted[labels == k] == k).mean() for k in np.unique(labels)]
    return float(np.mean(shares)) if len(shares) > 1 else np.nan


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the classes that occur; NaN when fewer than two do."""
    classes = np.unique(labels)
    if len(classes) < 2:
        return np.nan
    scores = []
    for k in classes:
        right = ((labels == k) & (predicted == k)).sum()
        scores.append(2 * right / ((labels == k).sum() + (predicted == k).sum()))
    return float(np.mean(scores))


def kappa(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Cohen's kappa (1960), agreement beyond chance; NaN when fewer than two classes occur."""
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(labels, predicted)) if len(np.unique(labels)) > 1 else np.nan


def fisher_ratio(labels: np.ndarray, features: np.ndarray) -> float:
    """Scatter between the classes over scatter within them: tr(S_b) / tr(S_w).

    Neither a common factor nor a shift of the features (N, D) changes it (Fisher 1936, by traces as
    in Fukunaga 1990, chapter 10). NaN when fewer than two classes occur, or nothing varies within a
    class.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return np.nan
    values = np.asarray(features, dtype=np.float64)
    centre = values.mean(0)
    between = within = 0.0
    for k in classes:
        members = values[labels == k]
        mean = members.mean(0)
        between += len(members) * float(((mean - centre) ** 2).sum())
        within += float(((members - mean) ** 2).sum())
    # below rounding there is no scatter to divide by
    nothing = 1e-24 * float((values**2).sum())
    return between / within if within > nothing else np.nan


def nrmse(values: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean square error in standard deviations of the true values (ddof 0).

    The mean of the true values scores 1. NaN when they do not vary.
    """
    # the deviation of equal numbers is rounding, not nought
    if not len(values) or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return np.nan
    return float(np.sqrt(np.mean((values - predicted) ** 2)) / values.std())


def pearson_r(values: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's correlation; NaN when the values or the predictions do not vary."""
    if len(values) < 2:
        return np.nan
    first, second = values - values.mean(), predicted - predicted.mean()
    product = float(np.sqrt((first**2).sum() * (second**2).sum()))
    # predictions that differ by rounding only do not vary
    still = np.ptp(predicted) <= 1e-9 * np.abs(predicted).max()
    return float((first * second).sum() / product) if product > 0 and not still else np.nan


def mae(values: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, in the unit of the values; NaN without items."""
    return float(np.abs(values - predicted).mean()) if len(values) else np.nan


def r2(values: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the variance explained, 1 − NRMSE²; NaN when the values do not vary."""
    return 1 - nrmse(values, predicted) ** 2


def group_fisher_z(
    values: np.ndarray, predicted: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fisher's z (G,) of Pearson's r inside each group, and weight (G,), by the groups' names.

    What differs between groups, such as a subject's mean, does not enter. A group counts by its
    size less three, the inverse variance of z (Fisher 1921; Hedges and Olkin 1985). One of fewer
    than four items, or in which values or predictions do not vary, has z NaN and weight 0.
    """
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    z, weights = np.full(len(names), np.nan), np.zeros(len(names))
    order = np.argsort(codes, kind="stable")
    for group, inside in enumerate(np.split(order, np.cumsum(np.bincount(codes))[:-1])):
        r = pearson_r(values[inside], predicted[inside]) if len(inside) > 3 else np.nan
        if not np.isnan(r):
            z[group] = np.arctanh(np.clip(r, -ALMOST_ONE, ALMOST_ONE))
            weights[group] = len(inside) - 3
    return z, weights


def mean_r(z: np.ndarray, weights: np.ndarray) -> float:
    """Correlation at the weighted mean of Fisher's z (G,); NaN without any weight."""
    total = weights.sum()
    return float(np.tanh((np.nan_to_num(z) * weights).sum() / total)) if total > 0 else np.nan


def partial_r(values: np.ndarray, predicted: np.ndarray, given: np.ndarray) -> float:
    """Correlation of what is left of both (N,) after linear regression on other variables (N, K).

    NaN with no more than K + 2 items, or when nothing is left of either.
    """
    if len(values) <= given.shape[1] + 2:
        return np.nan
    design = np.column_stack([np.ones(len(given)), given])
    left = []
    for numbers in (np.asarray(values, float), np.asarray(predicted, float)):
        rest = numbers - design @ np.linalg.lstsq(design, numbers, rcond=None)[0]
        if rest.std() <= 1e-6 * np.abs(numbers).max():  # rounding is all that is left
            return np.nan
        left.append(rest)
    return pearson_r(*left)


def calibration_slope(values: np.ndarray, predicted: np.ndarray) -> float:
    """Slope of the regression of true on predicted values.

    1 where a prediction that is larger by one goes with a truth that is larger by one; below 1
    predictions spread too far, above 1 too little (Cox 1958). NaN when predictions do not vary.
    """
    r = pearson_r(values, predicted)
    return np.nan if np.isnan(r) else float(r * values.std() / predicted.std())


def metrics_of(is_regression: bool) -> tuple[str, ...]:
    """Names that are computed for a number, or for classes, on validation subjects."""
    return REGRESSION_METRICS if is_regression else CLASSIFICATION_METRICS


def higher_is_better(name: str) -> bool:
    """Tell whether a larger value of a score is a better one."""
    return name.removeprefix(TRAIN) not in LOWER_IS_BETTER


def check_metric(name: str, key: str, is_regression: bool | None = None) -> None:
    """Make sure that a score is computed for a number, or for classes (None: not known yet).

    The UserError begins with `key`, the parameter that names the score.
    """
    known = _ON_VALIDATION if is_regression is None else metrics_of(is_regression)
    if name == WITHIN and not is_regression:
        return
    if name in KNOWN_METRICS and name.removeprefix(TRAIN) in known:
        return
    kinds = {None: "", True: " for regression", False: " for classes"}
    raise UserError(
        f"{key}: {name} is not computed{kinds[is_regression]}; known: {', '.join(known)}, each "
        f"but {_NOT_IN_TRAINING[0]} also with {TRAIN} before it"
    )
