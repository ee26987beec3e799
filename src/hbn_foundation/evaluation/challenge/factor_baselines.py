"""What a model of the factors must beat, fitted and chosen on the same subjects and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.baselines import SCALED_PER_FEATURE
from hbn_foundation.evaluation.challenge.features import (
    Answer,
    WindowFeatures,
    always,
    answer_windows,
)
from hbn_foundation.evaluation.challenge.params import FactorEvaluationParams
from hbn_foundation.evaluation.challenge.windows import baseline_windows, with_columns
from hbn_foundation.evaluation.demographics import fit_demographics
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.progress import track
from hbn_foundation.training.linear_probe import Scaling, fit_ridge

if TYPE_CHECKING:
    from hbn_foundation.evaluation.challenge.features import Unlearned
    from hbn_foundation.signals.store import SignalStore

WITHOUT_EEG = ("constant", "median", "age_sex")
ANY = "any factor"


def factor_baselines(
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    people: pd.DataFrame,
    factors: tuple[str, ...],
    params: FactorEvaluationParams,
    n_samples: int,
    random_encoder: Unlearned | None = None,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Fit all baselines on training windows, answer the test windows.

    What takes no EEG is fitted on subjects, each counted once. Folds of the training subjects
    choose penalties: a dozen validation subjects with one number each choose almost at random.

    Parameters
    ----------
    store, windows
        The signals, and where the windows are: `row`, `recording`, `subject`, `start`.
    splits
        `subject` and `split`.
    people
        `subject`, the factors, `age` and `sex` (0, 1), NaN where unknown.
    factors
        Their names (K of them).
    params
        Which baselines, and how.
    n_samples
        Length of a window.
    random_encoder
        An encoder with random weights; without one `random_weights` is left out.

    Returns
    -------
    test : pandas.DataFrame
        Test windows of subjects of whom some factor is known (N rows), with the factors, `age`
        and `sex`.
    answers : dict
        By method: predictions (N, K).

    Raises
    ------
    UserError
        When a factor is known of too few subjects of a split.
    """
    known = people.assign(**{ANY: people[list(factors)].mean(axis=1)})
    table = with_columns(windows, known, [*factors, ANY, "age", "sex"])
    table = baseline_windows(table, splits, ANY, params.max_windows, params.seed)
    _check_factors(table, factors)
    tested = table["split"] == "test"
    learned, test = table[~tested].reset_index(drop=True), table[tested].reset_index(drop=True)
    features = WindowFeatures(params.baselines, store, n_samples, params, random_encoder)
    found = features.fit(learned)
    methods: list[str] = [m for m in params.baselines if m in WITHOUT_EEG or m in found]
    fits: dict[str, list[Answer]] = {method: [] for method in methods}
    pairs = [(method, name) for method in methods for name in factors]
    for method, name in track(pairs, "baselines of each factor"):
        fits[method].append(_fit(method, found.get(method), learned, name, params))
    return test.drop(columns=ANY), answer_windows(fits, features, test)


def _fit(
    method: str, features: np.ndarray | None, table: pd.DataFrame, factor: str,
    params: FactorEvaluationParams,
) -> Answer:  # fmt: skip
    splits, values = table["split"].to_numpy(dtype=str), table[factor].to_numpy(dtype=float)
    if features is None:
        training = table[splits == "train"].drop_duplicates("subject")
        of_subjects = training[factor].to_numpy(dtype=float)
        if method == "age_sex":
            people = fit_demographics(training, of_subjects)
            return lambda _, windows: people.predict(windows)
        middle = np.nanmedian if method == "median" else np.nanmean
        return always(float(middle(of_subjects)))
    known = ~np.isnan(values)
    scaling: Scaling = "feature" if method in SCALED_PER_FEATURE else "global"
    subjects = table["subject"].to_numpy(dtype=str)
    ridge = fit_ridge(
        features[known], values[known], splits[known], params.strengths, scaling, subjects[known]
    )
    return lambda inputs, _: ridge.predict(inputs)


def _check_factors(table: pd.DataFrame, factors: tuple[str, ...]) -> None:
    for factor in factors:
        counts = table[table[factor].notna()].groupby("split")["subject"].nunique()
        for split in SPLITS:
            if counts.get(split, 0) < 2:
                raise UserError(
                    f"participants: {factor} is known of {counts.get(split, 0)} {split} subjects "
                    "with windows; expected two or more"
                )
