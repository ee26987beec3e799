"""Evaluate a model of the psychopathology factors of subjects: challenge 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.baselines import DEMOGRAPHICS, Target
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
from hbn_foundation.evaluation.params import FactorEvaluationParams
from hbn_foundation.evaluation.sample import with_columns
from hbn_foundation.evaluation.scorers import SCORERS
from hbn_foundation.evaluation.statistics import Part
from hbn_foundation.evaluation.tasks.challenge_baselines import Asked, people_of
from hbn_foundation.labels.participants import FACTORS
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset

MAIN_FACTOR = "externalizing"
MEAN = "mean"
PREDICTED = "predicted_"


def asked_factors(dataset: EEGDataset, factors: tuple[str, ...]) -> Asked:
    """Ask for the factors of subjects; the truth are these (K), `age` and `sex`.

    What takes no EEG is fitted on subjects, each counted once. Folds of the training subjects
    choose penalties: a dozen validation subjects with one number each choose almost at random.
    """
    columns = [*factors, *DEMOGRAPHICS]
    windows = with_columns(dataset.windows, people_of(dataset.participants, factors), columns)
    known = windows[list(factors)].notna().any(axis=1).to_numpy()
    targets = [Target(factor, per_subject=True) for factor in factors]
    predicted = [PREDICTED + name for name in factors]
    return Asked(windows, known, "factor", targets, predicted, columns, of_subjects=True)


def score_factors(answers: Answers, params: FactorEvaluationParams) -> Evaluation:
    """Score the answers of one split, or of the folds of several.

    Parameters
    ----------
    answers
        Of `asked_factors`.
    params
        How windows become one prediction per subject, and resamplings for the intervals.

    Returns
    -------
    Evaluation
        Scores of each factor and of their mean. Predictions: one row per method and test subject,
        `method` and what `subject_predictions` gives.
    """
    methods = answers.by_method()
    test = methods[FINE_TUNED]
    factors = predicted_factors(test)
    columns = [PREDICTED + name for name in factors]
    scores = evaluate(
        factor_task(test, factors, params),
        {name: table[columns].to_numpy() for name, table in methods.items()}, {},
        n_samples=params.bootstraps, seed=params.seed,
    )  # fmt: skip
    of_mean = scores[scores["target"] == MEAN]
    r = scores_of(of_mean, "subject_r")
    for name, value in scores_of(of_mean, "window_nrmse").items():
        words = "" if np.isnan(r[name]) else f", r {r[name]:.3f} of subjects"
        say(f"{display_name(name)}: NRMSE {value:.3f} of windows{words}, mean of the factors")
    metrics = about_scores(scores, test, answers.about)
    metrics["aggregation"] = params.aggregation
    people = test.drop_duplicates("subject")
    subjects = [
        subject_predictions(table, people, factors, params).assign(method=name)
        for name, table in methods.items()
    ]
    return Evaluation(plain(metrics), scores, pd.concat(subjects, ignore_index=True))


def factor_task(
    test: pd.DataFrame, factors: tuple[str, ...], params: FactorEvaluationParams
) -> Task:
    """Score factors by window and by subject.

    Parameters
    ----------
    test, factors
        `subject`, the factors, `age` and `sex` of windows (N rows), and the factors' names (K).
        With a column `repeat`, subjects of several repeats are kept apart.
    params
        How windows become one prediction per subject.

    Returns
    -------
    Task
        Of predictions (N, K) of the same windows. Metrics of each factor and of the mean over
        them: `window_nrmse` and `window_r` over all windows, as the challenge scores
        externalizing; of subjects `subject_nrmse`, `subject_r`, `partial_r` (given age and sex)
        and `calibration_slope`.
    """
    repeat = test["repeat"].astype(str) + " " if "repeat" in test else ""
    units = repeat + test["subject"].astype(str)
    people = test.assign(unit=units).drop_duplicates("unit").set_index("unit").sort_index()
    of_windows, of_people = (t[list(factors)].to_numpy(float) for t in (test, people))
    given = people[DEMOGRAPHICS].to_numpy(float)

    def parts(predicted: np.ndarray) -> list[Part]:
        answers = aggregate_windows(predicted, units.to_numpy(), params).to_numpy()

        def windows(chosen: np.ndarray) -> Named:
            return _of_each(factors, _window_scores, of_windows[chosen], predicted[chosen])

        def whole(chosen: np.ndarray) -> Named:
            values = of_people[chosen], answers[chosen], given[chosen]
            return _of_each(factors, _subject_scores, *values)

        return [
            Part(test["subject"].to_numpy(dtype=object), windows, len(test)),
            Part(people["subject"].to_numpy(dtype=object), whole, len(test)),
        ]

    return Task(FINE_TUNED, parts, "window_nrmse", ("window_nrmse", "subject_nrmse"))


def _of_each(
    factors: Sequence[str], score: Any, values: np.ndarray, predicted: np.ndarray,
    *given: np.ndarray,
) -> Named:  # fmt: skip
    """Score each factor over the items of which it is known, and their mean."""
    found: dict[str, dict[str, float]] = {}
    for place, factor in enumerate(factors):
        known = ~np.isnan(values[:, place])
        more = [table[known] for table in given]
        found[factor] = score(values[known, place], predicted[known, place], *more)
    names = found[factors[0]]
    found[MEAN] = {name: float(np.mean([one[name] for one in found.values()])) for name in names}
    return {
        (factor, name): value
        for factor, of_factor in found.items()
        for name, value in of_factor.items()
    }


def _window_scores(values: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {f"window_{name}": SCORERS[name].function(values, predicted) for name in ("nrmse", "r")}


def _subject_scores(
    values: np.ndarray, predicted: np.ndarray, given: np.ndarray
) -> dict[str, float]:
    known = ~np.isnan(given).any(1)
    partial = SCORERS["partial_r"].function(values[known], predicted[known], given[known])
    return {
        **{f"subject_{n}": SCORERS[n].function(values, predicted) for n in ("nrmse", "r")},
        "partial_r": partial,
        "calibration_slope": SCORERS["calibration_slope"].function(values, predicted),
    }


def main_factor(factors: Sequence[str]) -> str:
    """Name the factor that the challenge scores, or the first where that is not predicted."""
    return MAIN_FACTOR if MAIN_FACTOR in factors else factors[0]


def predicted_factors(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Name what was predicted: the factors in their usual order, then everything else."""
    names = [name.removeprefix(PREDICTED) for name in map(str, predictions)
             if name.startswith(PREDICTED)]  # fmt: skip
    return tuple(sorted(names, key=lambda name: (*FACTORS, name).index(name)))


def aggregate_windows(
    predicted: np.ndarray, subjects: np.ndarray, params: FactorEvaluationParams
) -> pd.DataFrame:
    """Make one prediction per subject (S, K), indexed by subject, from those of windows (N, K)."""
    groups = pd.DataFrame(np.asarray(predicted, dtype=float)).groupby(
        pd.Series(np.asarray(subjects).astype(str), name="subject")
    )
    return groups.median() if params.aggregation == "median" else groups.mean()


def subject_predictions(
    predictions: pd.DataFrame,
    people: pd.DataFrame,
    factors: tuple[str, ...],
    params: FactorEvaluationParams,
) -> pd.DataFrame:
    """Make the table of subjects from that of windows with `subject` and `predicted_<factor>`.

    It has `subject`, each factor and `predicted_<factor>`, `n_windows`, `age`, `sex`.
    """
    columns = [PREDICTED + name for name in factors]
    subjects = predictions["subject"].astype(str).to_numpy()
    table = aggregate_windows(predictions[columns].to_numpy(), subjects, params)
    table.columns = pd.Index(columns)
    table["n_windows"] = pd.Series(subjects).value_counts().reindex(table.index)
    known = people.assign(subject=people["subject"].astype(str)).set_index("subject")
    wanted = known[[*factors, *DEMOGRAPHICS]].reindex(table.index)
    order = [name for factor in factors for name in (factor, PREDICTED + factor)]
    result = pd.concat([wanted, table], axis=1)[[*order, "n_windows", *DEMOGRAPHICS]]
    return result.rename_axis("subject").reset_index()


def of_subjects(
    predictions: pd.DataFrame, dataset: EEGDataset, params: FactorEvaluationParams
) -> pd.DataFrame:
    """Make the table of a dataset's subjects from predictions of their windows."""
    factors = predicted_factors(predictions)
    people = people_of(dataset.participants, factors)
    return subject_predictions(predictions, people, factors, params)
