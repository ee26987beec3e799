"""Boosted trees find a relation, choose on validation windows, and look at no test window."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from hbn_foundation.evaluation.challenge.boosting import fit_boosted_trees
from hbn_foundation.evaluation.challenge.params import BoostingParams

PARAMS = BoostingParams(leaves=(3, 6), max_trees=40, learning_rate=0.2)


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    features = random.normal(size=(900, 4))
    values = np.abs(features[:, 0]) + 0.2 * random.normal(size=900)
    return features, values, np.repeat(["train", "validation", "test"], 300)


def test_what_is_not_linear_is_found(data):
    features, values, splits = data
    test, held = splits == "test", splits == "validation"
    trees = fit_boosted_trees(features, values, splits, PARAMS)
    assert np.corrcoef(trees.predict(features[test]), values[test])[0, 1] > 0.8
    error = mean_squared_error(values[held], trees.predict(features[held]))
    assert trees.validation_error == pytest.approx(error)
    moved = np.where(test, 1e6, values)
    again = fit_boosted_trees(np.where(test[:, None], 1e6, features), moved, splits, PARAMS)
    np.testing.assert_array_equal(again.predict(features), trees.predict(features))


def test_noise_takes_few_trees(data):
    features, _, splits = data
    noise = np.random.default_rng(1).normal(size=900)
    assert fit_boosted_trees(features, noise, splits, PARAMS).n_trees < 10


def test_classes_have_probabilities(data):
    features, values, splits = data
    labels, held = (values > 0.7).astype(np.int64), splits == "validation"
    trees = fit_boosted_trees(features, labels, splits, PARAMS, classes=True)
    error = log_loss(labels[held], trees.predict(features[held]))
    assert trees.validation_error == pytest.approx(error)
    assert trees.predict(features[:0]).shape == (0,)
