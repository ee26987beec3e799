"""Baselines learn what is there, choose where they may, and look at no test subject."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss, mean_squared_error

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation import boosting
from hbn_foundation.evaluation.baselines import BASELINES, Target
from hbn_foundation.evaluation.boosting import fit_boosted_trees
from hbn_foundation.evaluation.params import FactorEvaluationParams
from hbn_foundation.labels.participants import challenge_subjects, factor_table, read_participants
from hbn_foundation.scores import nrmse, pearson_r
from hbn_foundation.training.linear_probe import fit_ridge

PARAMS = FactorEvaluationParams()
NOTHING = np.empty((0, 0))


def demographics(people, values, kind="number"):
    """Fit age and sex on people, all of them training subjects."""
    table = people.assign(value=values, split="train", subject=people.index.astype(str))
    fitted = BASELINES["age_sex"].fit(NOTHING, table, Target("value", kind), PARAMS)
    return lambda others: fitted.predict(None, others)


def test_age_and_sex_beat_a_constant_on_real_people(hbn_metadata_root):
    def people_of(*releases):
        tables = [factor_table(read_participants(hbn_metadata_root / one)) for one in releases]
        return challenge_subjects(pd.concat(tables, ignore_index=True))

    train = people_of("ds005505", "ds005506", "ds005507", "ds005508")
    test = people_of("ds005509")
    assert not set(train["subject"]) & set(test["subject"])
    predicted = demographics(train, train["externalizing"])(test)
    truth = test["externalizing"].to_numpy()
    assert nrmse(truth, predicted) < 1 <= nrmse(truth, np.full(len(truth), truth.mean() + 0.01))
    assert pearson_r(truth, predicted) > 0.15


def test_age_and_sex_are_a_regression_and_the_unknown_are_the_mean():
    people = pd.DataFrame({"age": [6.0, 9, 12, 15], "sex": [0.0, 1, 0, 1]})
    values = np.array([1.0, 2, 4, np.nan])
    predict = demographics(people, values)
    bare = people.head(3).to_numpy()
    expected = LinearRegression().fit(bare, values[:3]).predict(people.to_numpy())
    np.testing.assert_allclose(predict(people), expected)
    unknown = pd.DataFrame({"age": [np.nan], "sex": [np.nan]})
    np.testing.assert_allclose(predict(unknown), 7 / 3)  # a regression passes the means
    only_age = pd.DataFrame({"age": [5.0, 6, 7], "sex": [np.nan] * 3})
    found = demographics(only_age, np.arange(3.0))(only_age)
    np.testing.assert_allclose(found, [0, 1, 2], atol=1e-9)
    with pytest.raises(UserError, match="age and sex of no training subject are known"):
        demographics(only_age.assign(age=np.nan), np.ones(3))


def test_age_and_sex_give_a_probability():
    random = np.random.default_rng(0)
    people = pd.DataFrame({"age": random.uniform(5, 21, 400), "sex": random.integers(0, 2, 400)})
    likely = 1 / (1 + np.exp(-(people["age"] - 12) / 2))
    predict = demographics(people, (random.random(400) < likely).astype(float), "probability")
    assert np.abs(predict(people) - likely).mean() < 0.06


def test_validation_subjects_do_not_choose_the_penalty_of_a_factor():
    """Here they ask for a weak one, of a factor that the features do not tell."""
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{number}" for number in range(60)], 10)
    splits = np.repeat(["train", "validation", "test"], [500, 50, 50])
    features = random.normal(size=(60, 40)).repeat(10, axis=0)
    values = random.normal(size=60).repeat(10)
    learned = fit_ridge(features, values, splits, (1.0,)).predict(features)
    values = np.where(splits == "validation", learned, values)
    table = pd.DataFrame({"subject": subjects, "split": splits, "attention": values})
    target = Target("attention", per_subject=True)
    fitted = BASELINES["filter_bank"].fit(features, table, target, PARAMS)
    said = fitted.predict(features, table)[splits == "test"]
    assert np.ptp(said) < 0.1 * np.ptp(learned[splits == "test"])
    assert said.mean() == pytest.approx(values[splits == "train"].mean(), abs=0.1)


def test_constants_count_subjects_once_where_each_has_one_value():
    table = pd.DataFrame({"subject": list("aaab"), "value": [1.0, 1, 1, 4], "split": "train"})
    found = {
        (method, once): BASELINES[method].fit(
            NOTHING, table, Target("value", per_subject=once), PARAMS
        ).predict(None, table)[0]
        for method in ("constant", "median")
        for once in (False, True)
    }  # fmt: skip
    assert found == {("constant", False): 1.75, ("constant", True): 2.5,
                     ("median", False): 1.0, ("median", True): 2.5}  # fmt: skip


@pytest.fixture
def data(monkeypatch):
    for name, value in (("LEAVES", (3, 6)), ("MOST_TREES", 40), ("LEARNING_RATE", 0.2)):
        monkeypatch.setattr(boosting, name, value)
    random = np.random.default_rng(0)
    features = random.normal(size=(900, 4))
    values = np.abs(features[:, 0]) + 0.2 * random.normal(size=900)
    return features, values, np.repeat(["train", "validation", "test"], 300)


def test_trees_find_what_is_not_linear(data):
    features, values, splits = data
    test, held = splits == "test", splits == "validation"
    trees = fit_boosted_trees(features, values, splits)
    assert np.corrcoef(trees.predict(features[test]), values[test])[0, 1] > 0.8
    error = mean_squared_error(values[held], trees.predict(features[held]))
    assert trees.validation_error == pytest.approx(error)
    moved = np.where(test, 1e6, values)
    again = fit_boosted_trees(np.where(test[:, None], 1e6, features), moved, splits)
    np.testing.assert_array_equal(again.predict(features), trees.predict(features))
    noise = np.random.default_rng(1).normal(size=900)
    assert fit_boosted_trees(features, noise, splits).n_trees < 10


def test_trees_of_classes_have_probabilities(data):
    features, values, splits = data
    labels, held = (values > 0.7).astype(np.int64), splits == "validation"
    trees = fit_boosted_trees(features, labels, splits, classes=True)
    error = log_loss(labels[held], trees.predict(features[held]))
    assert trees.validation_error == pytest.approx(error)
    assert trees.predict(features[:0]).shape == (0,)
