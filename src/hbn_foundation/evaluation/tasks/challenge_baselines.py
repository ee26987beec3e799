"""The baselines of both challenges: of response times and success, and of factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, count_of
from hbn_foundation.evaluation.baselines import (
    DEMOGRAPHICS,
    Measured,
    Target,
    predict_baselines,
)
from hbn_foundation.evaluation.params import FactorEvaluationParams, ResponseTimeEvaluationParams
from hbn_foundation.evaluation.sample import Sample, choose_windows, with_columns
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.participants import factor_table

if TYPE_CHECKING:
    from hbn_foundation.evaluation.features import FrozenEncoders
    from hbn_foundation.signals.dataset import EEGDataset

RT, P_CORRECT = "predicted_rt", "p_correct"
TIMES = (Target("rt"), Target("correct", "probability"))


def response_time_baselines(
    dataset: EEGDataset,
    params: ResponseTimeEvaluationParams,
    n_samples: int,
    encoders: FrozenEncoders | None = None,
) -> tuple[Sample, dict[str, pd.DataFrame]]:
    """Fit the baselines on training trials, and predict the test trials.

    Returns
    -------
    sample : Sample
        The windows that were used, with `age` and `sex`.
    answers : dict
        By method: `predicted_rt` in s and `p_correct`, the probability of a correct answer, of
        its test windows.
    """
    known = dataset.windows["rt"].notna().to_numpy()
    windows = with_columns(dataset.windows, factor_table(dataset.participants), DEMOGRAPHICS)
    chosen = choose_windows(windows, dataset.splits, known, params, "rt")
    answers = predict_baselines(
        params.baselines, chosen.table, TIMES, Measured(dataset.store, n_samples, encoders), params
    )
    return chosen, {
        name: pd.DataFrame(dict(zip((RT, P_CORRECT), one.predictions, strict=True)))
        for name, one in answers.items()
    }


def factor_baselines(
    dataset: EEGDataset,
    people: pd.DataFrame,
    factors: tuple[str, ...],
    params: FactorEvaluationParams,
    n_samples: int,
    encoders: FrozenEncoders | None = None,
) -> tuple[Sample, dict[str, np.ndarray]]:
    """Fit the baselines on training windows, and predict the test windows.

    What takes no EEG is fitted on subjects, each counted once. Folds of the training subjects
    choose penalties: a dozen validation subjects with one number each choose almost at random.

    Parameters
    ----------
    dataset, people, factors
        The data; `subject`, the factors, `age` and `sex` (0, 1), NaN where unknown; names of the
        factors (K).
    params, n_samples, encoders
        As for `predict_baselines`.

    Returns
    -------
    sample : Sample
        The windows that were used, of subjects of whom some factor is known, with the factors,
        `age` and `sex`.
    answers : dict
        By method: predictions (N, K) of its test windows.
    """
    windows = with_columns(dataset.windows, people, [*factors, *DEMOGRAPHICS])
    known = windows[list(factors)].notna().any(axis=1).to_numpy()
    chosen = choose_windows(windows, dataset.splits, known, params, "factor")
    check_known(chosen.table, dataset.splits, factors, 2, 1)
    targets = [Target(factor, per_subject=True) for factor in factors]
    answers = predict_baselines(
        params.baselines,
        chosen.table,
        targets,
        Measured(dataset.store, n_samples, encoders),
        params,
    )
    return chosen, {name: np.column_stack(one.predictions) for name, one in answers.items()}


def check_known(
    windows: pd.DataFrame, splits: pd.DataFrame, columns: Sequence[str], fewest: int, tested: int
) -> None:
    """Make sure that columns of the windows are known of enough subjects of each split.

    `fewest` training and validation subjects and `tested` test subjects are enough.

    Raises
    ------
    UserError
        Naming the column, the split and the number.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"])
    for column in columns:
        known = windows["subject"].where(windows[column].notna()).groupby(split).nunique()
        for name in SPLITS:
            found, least = int(known.get(name, 0)), tested if name == "test" else fewest
            if found < least:
                raise UserError(
                    f"participants: {column} is known of {count_of(found, f'{name} subject')} with "
                    f"windows; expected {least} or more"
                )


def people_of(participants: pd.DataFrame, factors: tuple[str, ...]) -> pd.DataFrame:
    """Pick age, sex, and what is predicted from the participants, NaN where unknown."""
    people = factor_table(participants)
    for name in factors:
        if name not in people:
            numbers = pd.to_numeric(participants[name], errors="coerce")
            people[name] = numbers.to_numpy(dtype=float)
    return people
