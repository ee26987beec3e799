"""Score the predictions of a model beside its baselines: one tidy table for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.frame import COLUMNS, scores_of
from hbn_foundation.evaluation.methods import (
    BASELINE,
    MODEL,
    REFERENCE,
    SAME_FOR_ALL,
    TRIVIAL,
    display_name,
)
from hbn_foundation.evaluation.scorers import (
    AHEAD,
    OF_CLASSES,
    OF_NUMBERS,
    SCORERS,
    WITHIN_SUBJECTS,
    display_metric,
    scorer_of,
)
from hbn_foundation.evaluation.statistics import Interval, Part, Score, ahead, score_part
from hbn_foundation.evaluation.within import stratum_of, within_part
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.progress import say
from hbn_foundation.scores import WITHIN, subject_aurocs, subject_scores

PREDICTED = "predicted"
Named = dict[tuple[str, str], float]
"""Values by target and metric."""
MISSING = "interval_missing"


class Task(NamedTuple):
    """What is scored, and how."""

    model: str  # the method that is evaluated
    parts: Callable[[Any], Sequence[Part]]  # of predictions; scores by (target, metric)
    main: str  # metric that methods are sorted by
    compared: tuple[str, ...]  # metrics by which the model is compared with each method


def evaluate(
    task: Task,
    predictions: Mapping[str, Any],
    baselines: Mapping[str, Any],
    references: Mapping[str, Any] | None = None,
    *,
    n_samples: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Score methods on the test subjects, with intervals over these.

    Parameters
    ----------
    task
        What is scored.
    predictions
        Of the model, and of further models that stand beside it as baselines.
    baselines
        Predictions of the baselines.
    references
        Predictions from the test subjects' own answers, which no fair method has.
    n_samples, seed
        How often the subjects are resampled, and which resamples.

    Returns
    -------
    pandas.DataFrame
        A row per target, metric and method, the best method first, references last: `COLUMNS`.
        How far the model is ahead of a method by a metric is the metric `<metric>_ahead`, positive
        where the model is better. `attrs["interval_missing"]`: why the model's main score has no
        interval, "" where it has one.
    """
    methods = {**predictions, **baselines, **(references or {})}
    rows: list[dict[str, Any]] = []
    ours: dict[tuple[str, str], Score] = {}
    for method in sorted(methods, key=lambda name: name != task.model):
        kind = TRIVIAL if method in SAME_FOR_ALL else BASELINE
        if references and method in references:
            kind = REFERENCE
        elif method == task.model:
            kind = MODEL
        for part in task.parts(methods[method]):
            for (target, metric), score in score_part(part, n_samples, seed).items():
                row = {
                    "target": target, "metric": metric, "method": method, "split": "test",
                    "seed": seed, "n_subjects": len(pd.unique(part.subjects)),
                    "n_windows": part.n_windows, "kind": kind,
                }  # fmt: skip
                rows.append(row | _with_ends(score.value, score.interval))
                if kind == MODEL:
                    ours[target, metric] = score
                elif metric in task.compared:
                    better = scorer_of(metric).greater_is_better
                    gap = ahead(ours[target, metric], score, better)
                    rows.append(row | {"metric": metric + AHEAD} | _with_ends(*gap))
    table = _best_first(pd.DataFrame(rows, columns=list(COLUMNS)), task.main)
    of_main = (score for (_, metric), score in ours.items() if metric == task.main)
    table.attrs[MISSING] = next(of_main).interval.missing
    return table


def _with_ends(value: float, interval: Interval) -> dict[str, float]:
    return {"value": value, "ci_low": interval.low, "ci_high": interval.high}


def _best_first(table: pd.DataFrame, main: str) -> pd.DataFrame:
    """Sort the methods of each target by a metric, references behind all others."""
    sign = -1 if scorer_of(main).greater_is_better else 1
    of_main = table[table["metric"] == main].set_index(["target", "method"])["value"]
    keys = pd.MultiIndex.from_frame(table[["target", "method"]])
    order = pd.DataFrame(
        {
            "target": pd.factorize(table["target"])[0],
            "last": table["kind"] == REFERENCE,
            "value": sign * of_main.reindex(keys).to_numpy(),
            "method": pd.factorize(table["method"])[0],
        }
    )
    places = order.sort_values(["target", "last", "value", "method"], kind="stable").index
    return table.loc[places].reset_index(drop=True)


def main_metric(is_regression: bool, stratified: bool = False) -> str:
    """Name the metric of windows that intervals and comparisons are made of."""
    return WITHIN if stratified else "nrmse" if is_regression else "window_auroc"


def by_recording(
    values: np.ndarray, predictions: np.ndarray, recordings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool windows to recordings, in the order of the recordings' names.

    Classes (N,) become those of the recordings (R,), numbers (N,) their means, log probabilities
    (N, K) their means (R, K). Classes that change within a recording, as those of trials do, are
    no class of recordings; then there are none.
    """
    _, first, group = np.unique(recordings.astype(str), return_index=True, return_inverse=True)
    counts = np.bincount(group)
    sums = np.zeros((len(first), *predictions.shape[1:]))
    np.add.at(sums, group, predictions)
    pooled = sums / counts.reshape(-1, *[1] * (predictions.ndim - 1))
    if np.issubdtype(values.dtype, np.floating):
        return np.bincount(group, values) / counts, pooled
    if not np.array_equal(values[first][group], values):
        return values[:0], pooled[:0]
    return values[first], pooled


def window_task(model: str, target: str, values: np.ndarray, windows: pd.DataFrame) -> Task:
    """Score classes or numbers of windows, per window and per recording.

    Parameters
    ----------
    model, target
        The method that is evaluated, and the name of what is predicted.
    values
        Class (integers, −1 unknown) or number (NaN unknown) of each window (N,).
    windows
        `recording` and `subject` of the windows (N rows), `stratum` where scores are stratified.

    Returns
    -------
    Task
        Of predictions that are log probabilities (N, K), or numbers (N,). Main metrics are
        `window_auroc` and `nrmse`, or `within_auroc` with strata; the metrics of recordings begin
        with `recording_` and are NaN where windows of one recording differ.
    """
    known = WindowTargets(values, ()).known
    values = values[known]
    recordings, subjects = (windows[name].to_numpy()[known] for name in ("recording", "subject"))
    regression = bool(np.issubdtype(values.dtype, np.floating))
    strata = stratum_of(windows) if STRATUM in windows else None
    main = main_metric(regression, strata is not None)
    names = OF_NUMBERS if regression else OF_CLASSES
    pooled = main_metric(regression)
    n = len(values)
    without = "have one value only" if regression else "hold one class only"

    def parts(predictions: np.ndarray) -> list[Part]:
        answers = predictions[known]
        whole = by_recording(values, answers, recordings)

        def of_main(chosen: np.ndarray) -> Named:
            score = SCORERS[names[0]].function
            return {(target, pooled): score(values[chosen], answers[chosen])}

        def others(_: np.ndarray) -> Named:
            found = {name: SCORERS[name].function(values, answers) for name in names[1:]}
            found |= {f"recording_{name}": SCORERS[name].function(*whole) for name in names}
            return {(target, name): value for name, value in found.items()}

        stratified = strata is not None
        found = [Part(subjects, of_main, n, not stratified, without),
                 Part(subjects, others, n, False)]  # fmt: skip
        if strata is not None:
            each, aurocs = subject_aurocs(values, answers, subjects)
            found.insert(0, within_part(pd.Series(aurocs, each), strata, (target, main), n))
        return found if regression else [*found, *by_subject(answers)]

    def by_subject(answers: np.ndarray) -> list[Part]:
        if pd.Series(values).groupby(subjects.astype(str)).nunique().max() < 2:
            return []  # classes of subjects, which have no score of their own
        each = {name: subject_scores(score, values, answers, subjects)
                for name, score in WITHIN_SUBJECTS.items()}  # fmt: skip
        return [within_part(pd.Series(found, names), pd.Series("", names), (target, name), n)
                for name, (names, found) in each.items()]  # fmt: skip

    return Task(model, parts, main, (main,))


def confusion_matrix(values: np.ndarray, log_probabilities: np.ndarray) -> list[list[int]]:
    """Count windows whose class is known: true class in the rows, predicted in the columns."""
    from sklearn.metrics import confusion_matrix as counts

    known, classes = WindowTargets(values, ()).known, range(log_probabilities.shape[1])
    found = counts(values[known], log_probabilities[known].argmax(1), labels=classes)
    return [[int(count) for count in row] for row in found]


def predictions_table(
    windows: pd.DataFrame, targets: WindowTargets, predictions: np.ndarray
) -> pd.DataFrame:
    """Put predictions beside the truth, one row per window whose truth is known.

    Predictions are log probabilities (N, K), or numbers (N,). The table has `recording`,
    `subject`, `task`, `start`, `onset` (s) and `trial` where there is one; then `label`,
    `predicted` and `p(<class>)` of each class as names and shares, or `value` and `predicted` as
    numbers.
    """
    known = targets.known
    more = [name for name in ("onset", "trial") if name in windows]
    identity = ["recording", "subject", "task", "start", *more]
    table = windows.loc[known, identity].reset_index(drop=True)
    values, answers = targets.values[known], predictions[known]
    if targets.is_regression:
        return table.assign(value=values, **{PREDICTED: answers})
    names = np.array(targets.names, dtype=object)
    shares = np.exp(answers - answers.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    table = table.assign(label=names[values], **{PREDICTED: names[answers.argmax(1)]})
    return table.assign(**{f"p({name})": shares[:, k] for k, name in enumerate(targets.names)})


class Evaluation(NamedTuple):
    """What an evaluation gives."""

    metrics: dict[str, Any]  # what the scores are of and how they came about, ready for JSON
    scores: pd.DataFrame  # of `evaluate`
    predictions: pd.DataFrame  # see the function of the task


class Answers(NamedTuple):
    """What all methods predict for test windows: of one split, or of the folds of several."""

    table: pd.DataFrame  # a row per method and window: `method`, the window, truth, prediction
    about: dict[str, Any]  # of `Sample.about`

    @classmethod
    def of(
        cls, windows: pd.DataFrame, predictions: Mapping[str, pd.DataFrame], about: dict[str, Any]
    ) -> Answers:
        """Put the predictions of each method (N rows) beside the windows (N rows)."""
        parts = [windows.join(table).assign(method=name) for name, table in predictions.items()]
        return cls(pd.concat(parts, ignore_index=True), about)

    def by_method(self) -> dict[str, pd.DataFrame]:
        """Give the windows with the predictions of each method."""
        groups = self.table.groupby("method", sort=False)
        return {str(name): part.reset_index(drop=True) for name, part in groups}


def say_scores(scores: pd.DataFrame, task: Task) -> None:
    """Say the main score of each method."""
    numbers = task.main == main_metric(is_regression=True)
    for method, value in scores_of(scores, task.main).items():
        if not np.isnan(value):
            say(f"{display_name(method, numbers)}: {display_metric(task.main)} {value:.3f}")


def about_scores(
    scores: pd.DataFrame, test: pd.DataFrame, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe what scores are of: windows, subjects, and why there is no interval."""
    return {
        "n_windows": len(test),
        "n_subjects": test["subject"].nunique(),
        "n_recordings": test["recording"].nunique(),
        "interval_missing": scores.attrs[MISSING],
        **about,
    }


def plain(value: Any) -> Any:
    """Turn NumPy numbers into Python's and NaN into None, for JSON."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
