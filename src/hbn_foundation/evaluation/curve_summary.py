"""The summary of a learning curve: scores over labelled subjects, with paired intervals.

The unit is the subject. A subject's score is averaged over the draws of labelled subjects, and over
the folds that test it; scores that subjects share, as without strata, are made of the subjects of
each fold, and averaged. Intervals hold all trained models fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.evaluate import Task, window_task
from hbn_foundation.evaluation.methods import FINE_TUNED, PRETRAINED, display_name
from hbn_foundation.evaluation.params import (
    BaselineParams,
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.statistics import Part, Score, ahead, score_part
from hbn_foundation.evaluation.tasks.factors import (
    PREDICTED,
    factor_task,
    main_factor,
    predicted_factors,
)
from hbn_foundation.evaluation.tasks.response_times import response_time_task
from hbn_foundation.evaluation.within import stratum_of, within_part
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.scores import WITHIN, subject_aurocs

CELL = ["repeat", "fold", "seed"]
REFERENCES = (PRETRAINED, FINE_TUNED)
"""Methods whose lead over all others is in the summary, where they are among the methods."""
TARGET = "label"
Cell = tuple[Any, ...]


def curve_summary(predictions: pd.DataFrame, params: BaselineParams) -> pd.DataFrame:
    """Score each method at each number of labelled subjects, and compare them.

    Parameters
    ----------
    predictions
        Of `learning_curve`: a row per `repeat`, `fold`, `seed`, `n_subjects`, `method` and test
        window.
    params
        Those of the evaluation: what is predicted, and how the subjects are resampled.

    Returns
    -------
    pandas.DataFrame
        One row per `n_subjects` and `method`, the best at most subjects first: `score` (named by
        `metric`) with its 95 % interval `low`, `high`, or why there is none (`missing`); how far
        each of `REFERENCES` is `<reference>_ahead` of the method, over the folds and seeds of both,
        with `_low`, `_high`; `n_draws` (seeds), `n_folds`, `n_test` (subjects).
    """
    parts, metric = _parts_of(predictions, params)
    strata = stratum_of(predictions) if STRATUM in predictions else None
    sign = 1 if scorer_of(metric).greater_is_better else -1

    @cache
    def score(n_subjects: int, method: str, cells: tuple[Cell, ...]) -> Score:
        of_method = parts[n_subjects, method]
        part = _averaged([of_method[cell] for cell in cells], strata, metric)
        return next(iter(score_part(part, params.bootstraps, params.seed).values()))

    tested = predictions.groupby(["n_subjects", "method"])["subject"].nunique()
    rows = []
    for (n_subjects, method), of_method in parts.items():
        cells = tuple(of_method)
        found = score(n_subjects, method, cells)
        row: dict[str, Any] = {
            "n_subjects": n_subjects, "method": method, "name": display_name(method),
            "metric": metric, "score": found.value, "low": found.interval.low,
            "high": found.interval.high, "missing": found.interval.missing,
            "n_draws": len({cell[2] for cell in cells}),
            "n_folds": len({cell[:2] for cell in cells}),
            "n_test": tested.loc[n_subjects, method],
        }  # fmt: skip
        for reference in REFERENCES:
            ours = parts.get((n_subjects, reference), {})
            shared = tuple(cell for cell in cells if cell in ours)
            if method != reference and shared:
                mine = score(n_subjects, reference, shared)
                gap, ends = ahead(mine, score(n_subjects, method, shared), sign > 0)
                row |= {f"{reference}_ahead": gap, f"{reference}_ahead_low": ends.low,
                        f"{reference}_ahead_high": ends.high}  # fmt: skip
        rows.append(row)
    table = pd.DataFrame(rows)
    most = table[table["n_subjects"] == table["n_subjects"].max()]
    best = most.sort_values("score", ascending=sign < 0, kind="stable")["method"].tolist()
    order = table["method"].map({name: place for place, name in enumerate(best)})
    return table.iloc[np.lexsort((table["n_subjects"], order))].reset_index(drop=True)


def _parts_of(
    predictions: pd.DataFrame, params: BaselineParams
) -> tuple[dict[tuple[int, str], dict[Cell, Any]], str]:
    """By number of subjects and method: what is scored in each fold and with each seed.

    That is the AUROC of each subject by subject, where scores are stratified, or else a part whose
    items are windows; and the name of the score.
    """
    outputs = [name for name in map(str, predictions) if name.startswith("log_p_")]
    found: dict[tuple[int, str], dict[Cell, Any]] = {}
    metric = WITHIN
    groups: Any = predictions.groupby(["n_subjects", "method", *CELL])
    for (n_subjects, method, *cell), rows in groups:
        windows = rows.reset_index(drop=True)
        of_method = found.setdefault((n_subjects, str(method)), {})
        if STRATUM in windows:
            answers, values = windows[outputs].to_numpy(), windows["value"].to_numpy(np.int64)
            names, aurocs = subject_aurocs(values, answers, windows["subject"].to_numpy())
            of_method[tuple(cell)] = pd.Series(aurocs, names)
        else:
            task, target, answers = _task_of(windows, outputs, params)
            metric, part = task.main, task.parts(answers)[0]
            of_method[tuple(cell)] = part._replace(score=_only(part, target, metric))
    return found, metric


def _task_of(
    windows: pd.DataFrame, outputs: list[str], params: BaselineParams
) -> tuple[Task, str, Any]:
    """Say how windows with predictions are scored: the task, its main target, the predictions."""
    if isinstance(params, ResponseTimeEvaluationParams):
        return response_time_task(windows, windows["threshold"].to_numpy(float)), "rt", windows
    if isinstance(params, FactorEvaluationParams):
        factor = main_factor(predicted_factors(windows))
        answers = windows[[PREDICTED + factor]].to_numpy()
        return factor_task(windows, (factor,), params), factor, answers
    answers = windows[outputs or "predicted"].to_numpy()
    values = windows["value"].to_numpy(dtype=np.int64 if outputs else np.float64)
    return window_task(FINE_TUNED, TARGET, values, windows), TARGET, answers


def _only(part: Part, target: str, metric: str) -> Callable[[np.ndarray], dict[str, float]]:
    return lambda rows: {metric: part.score(rows)[target, metric]}


def _averaged(cells: Sequence[Any], strata: pd.Series | None, metric: str) -> Part:
    """Make one part, whose items are subjects, of what is scored in each fold and seed."""
    if strata is not None:
        return within_part(pd.concat(cells, axis=1).mean(axis=1), strata, metric)
    names = np.unique(np.concatenate([part.subjects for part in cells]).astype(str))
    places = [
        [np.flatnonzero(part.subjects.astype(str) == name) for name in names] for part in cells
    ]

    def score(chosen: np.ndarray) -> dict[str, float]:
        found = []
        for part, of_subject in zip(cells, places, strict=True):
            rows = np.concatenate([of_subject[subject] for subject in chosen])
            found.append(part.score(rows)[metric])
        known = [value for value in found if not np.isnan(value)]
        return {metric: float(np.mean(known)) if known else np.nan}

    return Part(names, score, without=cells[0].without)
