"""Folds of the training subjects choose the penalty of a factor's baseline."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.challenge.factor_baselines import _fit
from hbn_foundation.evaluation.challenge.params import FactorEvaluationParams
from hbn_foundation.training.linear_probe import fit_ridge


def test_validation_subjects_do_not_choose_the_penalty():
    """Here they ask for a weak one, of a factor that the features do not tell."""
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{number}" for number in range(60)], 10)
    splits = np.repeat(["train", "validation", "test"], [500, 50, 50])
    features = random.normal(size=(60, 40)).repeat(10, axis=0)
    values = random.normal(size=60).repeat(10)
    learned = fit_ridge(features, values, splits, (1.0,)).predict(features)
    values = np.where(splits == "validation", learned, values)
    table = pd.DataFrame({"subject": subjects, "split": splits, "attention": values})
    answer = _fit("filter_bank", features, table, "attention", FactorEvaluationParams())
    said = answer(features, table)[splits == "test"]
    assert np.ptp(said) < 0.1 * np.ptp(learned[splits == "test"])
    assert said.mean() == pytest.approx(values[splits == "train"].mean(), abs=0.1)
