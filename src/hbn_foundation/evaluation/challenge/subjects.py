"""From predictions of windows to one prediction per subject."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.params import FactorEvaluationParams
from hbn_foundation.labels.participants import FACTORS, factor_table

PREDICTED = "predicted_"


def aggregate_windows(
    predicted: np.ndarray, subjects: np.ndarray, params: FactorEvaluationParams
) -> pd.DataFrame:
    """Make one prediction per subject from those of its windows.

    Parameters
    ----------
    predicted
        Predictions (N, K) of windows.
    subjects
        Subject of each window (N,).
    params
        `aggregation`: mean or median.

    Returns
    -------
    pandas.DataFrame
        (S, K), indexed by subject, in order.
    """
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
    """Make the table of subjects from the table of windows.

    Parameters
    ----------
    predictions
        One row per window: `subject` and `predicted_<factor>`.
    people
        `subject`, the factors, `age` and `sex`.
    factors
        Their names.
    params
        How windows become one prediction.

    Returns
    -------
    pandas.DataFrame
        `subject`, each factor and `predicted_<factor>`, `n_windows`, `age`, `sex`; one row per
        subject.
    """
    columns = [PREDICTED + name for name in factors]
    subjects = predictions["subject"].astype(str).to_numpy()
    table = aggregate_windows(predictions[columns].to_numpy(), subjects, params)
    table.columns = pd.Index(columns)
    table["n_windows"] = pd.Series(subjects).value_counts().reindex(table.index)
    known = people.assign(subject=people["subject"].astype(str)).set_index("subject")
    wanted = known[[*factors, "age", "sex"]].reindex(table.index)
    order = [name for factor in factors for name in (factor, PREDICTED + factor)]
    result = pd.concat([wanted, table], axis=1)[[*order, "n_windows", "age", "sex"]]
    return result.rename_axis("subject").reset_index()


def predicted_factors(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Name what was predicted: the factors in their usual order, then everything else."""
    names = [name.removeprefix(PREDICTED) for name in map(str, predictions)
             if name.startswith(PREDICTED)]  # fmt: skip
    return tuple(sorted(names, key=lambda name: (*FACTORS, name).index(name)))


def people_of(participants: pd.DataFrame, factors: tuple[str, ...]) -> pd.DataFrame:
    """Pick age, sex, and what is predicted from the participants, NaN where unknown."""
    people = factor_table(participants)
    for name in factors:
        if name not in people:
            numbers = pd.to_numeric(participants[name], errors="coerce")
            people[name] = numbers.to_numpy(dtype=float)
    return people
