"""Ridge regression chooses on validation windows or folds, and is fitted on training windows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from hbn_foundation.training.linear_probe import cross_validated, fit_ridge


def test_ridge_finds_a_number_and_looks_at_no_test_window():
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 12))
    values = 50 + 10 * features[:, 0] + random.normal(size=300)
    splits = np.repeat(["train", "validation", "test"], 100)
    test = splits == "test"
    strengths = (1e-5, 1e-2, 1.0, 100.0)
    ridge = fit_ridge(features, values, splits, strengths)
    assert np.corrcoef(ridge.predict(features[test]), values[test])[0, 1] > 0.95
    assert ridge.validation_nrmse < 0.3
    moved = np.where(test, 1e6, values)
    again = fit_ridge(np.where(test[:, None], 1e6, features), moved, splits, strengths)
    np.testing.assert_array_equal(again.predict(features), ridge.predict(features))
    # nothing to find: the mean, by the strongest penalty
    noise = fit_ridge(random.normal(size=(300, 12)), values, splits, strengths)
    assert noise.strength <= 1e-2
    assert noise.validation_nrmse == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("scaling", ["global", "feature"])
def test_its_linear_map_gives_what_it_predicts(scaling):
    random = np.random.default_rng(1)
    features = 3 + random.normal(size=(90, 6)) * np.arange(1, 7)
    values = 40 + features[:, 2] + random.normal(size=90)
    ridge = fit_ridge(
        features, values, np.repeat(["train", "validation", "test"], 30), (1.0,), scaling
    )
    weights, offsets = ridge.linear_map()
    assert weights.shape == (1, 6)
    np.testing.assert_allclose(
        (features @ weights.T + offsets)[:, 0], ridge.predict(features), rtol=1e-5
    )


def test_folds_of_training_subjects_choose_where_each_has_one_number():
    """Validation subjects that mislead choose a weak penalty; folds see that nothing is there."""
    random = np.random.default_rng(2)
    subjects = np.repeat([f"s{number}" for number in range(60)], 20)
    splits = np.repeat(["train", "validation", "test"], [1000, 100, 100])
    own = random.normal(size=(60, 40)).repeat(20, axis=0)
    features = own + 0.3 * random.normal(size=own.shape)
    values = random.normal(size=60).repeat(20)
    held = splits == "validation"
    probe = fit_ridge(features, values, splits, (1.0,))
    values[held] = probe.predict(features)[held]  # as if all had been learned
    values[held] = pd.Series(values[held]).groupby(subjects[held]).transform("mean")
    strengths = (1e-5, 1.0)
    assert fit_ridge(features, values, splits, strengths).strength == 1.0
    ridge = fit_ridge(features, values, splits, strengths, subjects=subjects)
    assert ridge.strength == 1e-5
    # with a number that the features do tell, folds choose a weak penalty, whatever is validated
    values = 5 * own[:, 0]
    values[held] = random.permutation(5).repeat(20)
    assert fit_ridge(features, values, splits, strengths, subjects=subjects).strength == 1.0
    # numbers that differ within subjects are many cases: the validation windows choose
    values = features[:, 0] + random.normal(size=1200)
    assert (
        fit_ridge(features, values, splits, strengths, subjects=subjects).strength
        == fit_ridge(features, values, splits, strengths).strength
    )


@pytest.mark.parametrize("n_features", [30, 300])
def test_folds_score_what_scikit_learn_does(n_features):
    random = np.random.default_rng(3)
    subjects = np.repeat(np.arange(12), 10)
    inputs = random.normal(size=(120, n_features)).astype(np.float32)
    targets = inputs[:, 0] + random.normal(size=120)
    penalties = [0.1, 10.0, 1000.0]
    found = cross_validated(inputs, targets, subjects, penalties)
    for penalty, error in zip(penalties, found, strict=True):
        said = cross_val_predict(Ridge(penalty), inputs, targets, groups=subjects, cv=GroupKFold(5))
        assert error == pytest.approx(np.sqrt(np.mean((said - targets) ** 2)) / targets.std(), 1e-4)


def test_the_stronger_of_equals_where_each_fold_has_one_subject():
    random = np.random.default_rng(4)
    subjects = np.repeat(["a", "b", "c"], 10)
    splits = np.repeat(["train", "train", "validation"], 10)
    values = np.repeat([0.1, 0.7, 0.3], 10)
    features = random.normal(size=(30, 5))
    assert fit_ridge(features, values, splits, (1e-3, 1.0), subjects=subjects).strength == 1e-3
