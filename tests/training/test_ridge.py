"""Ridge regression chooses on validation windows and learns from training windows alone."""

import numpy as np
import pytest

from hbn_foundation.training.ridge import fit_ridge


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
