"""Challenge 2 evaluated: the psychopathology factors, baselines beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.challenge.factor_baselines import factor_baselines
from hbn_foundation.evaluation.challenge.scoring import (
    BASELINE,
    MODEL,
    best_first,
    score_row,
)
from hbn_foundation.evaluation.challenge.subjects import (
    PREDICTED,
    aggregate_windows,
    subject_predictions,
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
    from hbn_foundation.evaluation.challenge.params import FactorEvaluationParams
    from hbn_foundation.signals.store import SignalStore

MAIN_FACTOR = "externalizing"
MEAN = "mean"
SCORES = ("window_nrmse", "window_r", "subject_nrmse", "subject_r", "partial_r",
          "calibration_slope")  # fmt: skip
COMPARED = ("window_nrmse", "subject_nrmse")


def main_factor(factors: Sequence[str]) -> str:
    """Name the factor that the challenge scores, or the first where that is not predicted."""
    return MAIN_FACTOR if MAIN_FACTOR in factors else factors[0]


class FactorScores(NamedTuple):
    """What the evaluation of factors gives.

    Attributes
    ----------
    metrics
        Everything that is a number, ready for JSON.
    scores
        One row per method and factor, and one for the mean over factors: `method`, `name`,
        `kind`, `factor`, each score with `_low` and `_high`, how far the model is ahead.
    subjects
        One row per method and test subject: `method`, `subject`, each factor,
        `predicted_<factor>`, `n_windows`, `age`, `sex`.
    """

    metrics: dict[str, Any]
    scores: pd.DataFrame
    subjects: pd.DataFrame


def evaluate_factors(
    predictions: pd.DataFrame,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    people: pd.DataFrame,
    factors: tuple[str, ...],
    params: FactorEvaluationParams,
    n_samples: int,
    random_encoder: Unlearned | None = None,
    others: Mapping[str, pd.DataFrame] | None = None,
) -> FactorScores:
    """Score predicted factors on the test subjects, baselines beside them.

    Parameters
    ----------
    predictions
        Of the model: `recording`, `start` and `predicted_<factor>`; one row per test window.
    store, windows, splits, people, factors, params, n_samples, random_encoder
        See `factor_baselines`.
    others
        Predictions of further models by name, such as `scratch`.

    Returns
    -------
    FactorScores

    Raises
    ------
    UserError
        When a subject is in two splits, a factor is known of too few subjects, or predictions and
        test windows are not the same.
    """
    check_disjoint(splits)
    test, answers = factor_baselines(
        store, windows, splits, people, factors, params, n_samples, random_encoder
    )
    columns = [PREDICTED + name for name in factors]
    kinds = dict.fromkeys(answers, BASELINE)
    for name, table in {FINE_TUNED: predictions, **(others or {})}.items():
        what = f"predictions of {written(name)}"
        answers[name] = matched(table, test, columns, what).to_numpy()
        kinds[name] = MODEL if name == FINE_TUNED else BASELINE
    found = {name: factor_scores(test, answer, factors, params) for name, answer in answers.items()}
    table = _score_table(found, kinds, factors)
    for _, row in table[table["factor"] == MEAN].iterrows():
        r = "" if np.isnan(row["subject_r"]) else f", r {row['subject_r']:.3f} of subjects"
        say(f"{row['name']}: NRMSE {row['window_nrmse']:.3f} of windows{r}, mean of the factors")
    subjects = [
        subject_predictions(
            test[["subject"]].assign(**dict(zip(columns, answer.T, strict=True))),
            people, factors, params,
        ).assign(method=name)
        for name, answer in answers.items()
    ]  # fmt: skip
    missing = next(iter(found[FINE_TUNED].values())).interval.missing
    metrics = _metrics(table, test, params, missing) | {
        "sample": _sample(windows, splits, people, factors, params),
        "n_channels": len(store.positions),
    }
    return FactorScores(metrics, table, pd.concat(subjects, ignore_index=True))


def _sample(
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    people: pd.DataFrame,
    factors: tuple[str, ...],
    params: FactorEvaluationParams,
) -> dict[str, dict[str, int]]:
    """Count the windows of subjects of whom a factor is known."""
    known = people.loc[people[list(factors)].notna().any(axis=1), "subject"].astype(str)
    subjects = windows.loc[windows["subject"].astype(str).isin(known), "subject"]
    split_of = subjects.map(splits.set_index("subject")["split"])
    return count_sample(split_of, subjects, params.max_windows)


def factor_scores(
    test: pd.DataFrame,
    predicted: np.ndarray,
    factors: tuple[str, ...],
    params: FactorEvaluationParams,
) -> dict[str, Score]:
    """Score one method, with intervals over subjects.

    Parameters
    ----------
    test
        `subject`, the factors, `age` and `sex` of windows (N rows).
    predicted
        Predictions (N, K) of the same windows.
    factors
        Their names (K).
    params
        How windows become one prediction per subject; resamplings.

    Returns
    -------
    dict
        By `<factor>.<score>`, `mean.<score>` for the mean over the factors: `window_nrmse` and
        `window_r` over all windows, as the challenge scores externalizing; of subjects
        `subject_nrmse`, `subject_r`, `partial_r` (given age and sex) and `calibration_slope`.
    """
    whole = aggregate_windows(predicted, test["subject"].to_numpy(), params)
    people = test.assign(subject=test["subject"].astype(str)).drop_duplicates("subject")
    people = people.set_index("subject").loc[whole.index]
    of_windows = test[list(factors)].to_numpy(float)
    of_people = people[list(factors)].to_numpy(float)
    given, answers = people[["age", "sex"]].to_numpy(float), whole.to_numpy()

    def windows(chosen: np.ndarray) -> dict[str, float]:
        return _each(factors, of_windows[chosen], predicted[chosen], _window_scores)

    def subjects(chosen: np.ndarray) -> dict[str, float]:
        def score(values: np.ndarray, answer: np.ndarray, known: np.ndarray) -> dict[str, float]:
            return _subject_scores(values, answer, given[chosen][known])

        return _each(factors, of_people[chosen], answers[chosen], score)

    parts = [Part(test["subject"].to_numpy(dtype=object), windows),
             Part(whole.index.to_numpy(dtype=object), subjects)]  # fmt: skip
    return score_parts(parts, params.bootstraps, params.seed)


def _each(
    factors: tuple[str, ...], values: np.ndarray, predicted: np.ndarray, score: Any
) -> dict[str, float]:
    """Score each factor over the items of which it is known, and their mean."""
    found: dict[str, float] = {}
    table = []
    for place, factor in enumerate(factors):
        known = ~np.isnan(values[:, place])
        of_factor = score(values[known, place], predicted[known, place], known)
        found |= {f"{factor}.{name}": value for name, value in of_factor.items()}
        table.append(of_factor)
    means = {name: float(np.mean([row[name] for row in table])) for name in table[0]}
    return found | {f"{MEAN}.{name}": value for name, value in means.items()}


def _window_scores(values: np.ndarray, predicted: np.ndarray, _: np.ndarray) -> dict[str, float]:
    return {
        "window_nrmse": scores.nrmse(values, predicted),
        "window_r": scores.pearson_r(values, predicted),
    }


def _subject_scores(
    values: np.ndarray, predicted: np.ndarray, given: np.ndarray
) -> dict[str, float]:
    known = ~np.isnan(given).any(1)
    return {
        "subject_nrmse": scores.nrmse(values, predicted),
        "subject_r": scores.pearson_r(values, predicted),
        "partial_r": scores.partial_r(values[known], predicted[known], given[known]),
        "calibration_slope": scores.calibration_slope(values, predicted),
    }


def _score_table(
    found: dict[str, dict[str, Score]], kinds: dict[str, str], factors: tuple[str, ...]
) -> pd.DataFrame:
    tables = []
    for factor in (*factors, MEAN):
        rows = []
        for name, of_method in found.items():
            ours = _of_factor(found[FINE_TUNED], factor) if name != FINE_TUNED else None
            row = {"method": name, "name": written(name), "kind": kinds[name],
                   "factor": factor}  # fmt: skip
            rows.append(row | score_row(_of_factor(of_method, factor), ours, COMPARED))
        tables.append(best_first(pd.DataFrame(rows), "window_nrmse"))
    return pd.concat(tables, ignore_index=True)


def _of_factor(of_method: dict[str, Score], factor: str) -> dict[str, Score]:
    start = f"{factor}."
    return {key.removeprefix(start): score for key, score in of_method.items()
            if key.startswith(start)}  # fmt: skip


def _metrics(
    table: pd.DataFrame, test: pd.DataFrame, params: FactorEvaluationParams, interval_missing: str
) -> dict[str, Any]:
    names = [f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")]
    found: dict[str, dict[str, Any]] = {}
    for _, row in table.iterrows():
        of_method = found.setdefault(row["method"], {})
        of_method[row["factor"]] = {name: row[name] for name in names}
    return plain(
        {
            "test": found,
            "n_windows": len(test),
            "n_subjects": test["subject"].nunique(),
            "n_recordings": test["recording"].nunique(),
            "aggregation": params.aggregation,
            "interval_missing": interval_missing,
        }
    )
