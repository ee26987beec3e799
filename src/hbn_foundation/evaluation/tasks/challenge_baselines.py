"""What a challenge asks about windows, and the baselines that are fitted for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, count_of
from hbn_foundation.evaluation.baselines import Measured, Target, predict_baselines
from hbn_foundation.evaluation.params import FactorEvaluationParams, ResponseTimeEvaluationParams
from hbn_foundation.evaluation.sample import Sample, choose_windows
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.participants import factor_table

if TYPE_CHECKING:
    from hbn_foundation.evaluation.features import FrozenEncoders
    from hbn_foundation.signals.dataset import EEGDataset


class Asked(NamedTuple):
    """What is predicted of which windows."""

    windows: pd.DataFrame  # with the truth, `age` and `sex` (0, 1), NaN where unknown
    known: np.ndarray  # which windows (N,) have a truth
    what: str  # is known of them, for the message
    targets: Sequence[Target]
    columns: list[str]  # of predictions, one for each target
    truth: list[str]  # columns that stand beside the predictions
    of_subjects: bool = False  # whether each subject has one value of each target


def challenge_baselines(
    asked: Asked,
    dataset: EEGDataset,
    params: ResponseTimeEvaluationParams | FactorEvaluationParams,
    n_samples: int,
    encoders: FrozenEncoders | None = None,
) -> tuple[Sample, dict[str, pd.DataFrame]]:
    """Fit the baselines on training windows, and predict the test windows.

    Returns
    -------
    sample : Sample
        The windows that were used.
    answers : dict
        By method: the columns of predictions of its test windows.

    Raises
    ------
    UserError
        When a split has no window with a truth, or values of subjects are known of too few.
    """
    chosen = choose_windows(asked.windows, dataset.splits, asked.known, params, asked.what)
    if asked.of_subjects:
        columns = [target.column for target in asked.targets]
        check_known(chosen.table, dataset.splits, columns, 2, 1)
    measured = Measured(dataset.store, n_samples, encoders)
    answers = predict_baselines(params.baselines, chosen.table, asked.targets, measured, params)
    return chosen, {
        name: pd.DataFrame(dict(zip(asked.columns, one.predictions, strict=True)))
        for name, one in answers.items()
    }


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
