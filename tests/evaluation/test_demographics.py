"""Age and sex alone: what they say of the real participants, and what is done where unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.demographics import fit_demographics
from hbn_foundation.labels.participants import challenge_subjects, factor_table, read_participants
from hbn_foundation.scores import nrmse, pearson_r

R1_TO_R4 = ("ds005505", "ds005506", "ds005507", "ds005508")


def people_of(root: Path, *releases: str) -> pd.DataFrame:
    tables = [factor_table(read_participants(root / name)) for name in releases]
    return challenge_subjects(pd.concat(tables, ignore_index=True))


def test_age_and_sex_beat_a_constant_on_real_people(hbn_metadata_root):
    train = people_of(hbn_metadata_root, *R1_TO_R4)
    test = people_of(hbn_metadata_root, "ds005509")
    assert not set(train["subject"]) & set(test["subject"])
    fit = fit_demographics(train, train["externalizing"].to_numpy())
    predicted, truth = fit.predict(test), test["externalizing"].to_numpy()
    assert nrmse(truth, predicted) < 1
    assert nrmse(truth, np.full(len(truth), train["externalizing"].mean())) >= 1
    assert pearson_r(truth, predicted) > 0.15


def test_it_is_a_regression_and_the_unknown_are_the_mean():
    people = pd.DataFrame({"age": [6.0, 9, 12, 15], "sex": [0.0, 1, 0, 1]})
    values = np.array([1.0, 2, 4, np.nan])
    fit = fit_demographics(people, values)
    bare = people.head(3).to_numpy()
    expected = LinearRegression().fit(bare, values[:3]).predict(people.to_numpy())
    np.testing.assert_allclose(fit.predict(people), expected)
    unknown = pd.DataFrame({"age": [np.nan], "sex": [np.nan]})
    np.testing.assert_allclose(fit.predict(unknown), 7 / 3)  # a regression passes the means


def test_yes_and_no_have_a_probability():
    random = np.random.default_rng(0)
    people = pd.DataFrame({"age": random.uniform(5, 21, 400), "sex": random.integers(0, 2, 400)})
    likely = 1 / (1 + np.exp(-(people["age"] - 12) / 2))
    fit = fit_demographics(people, (random.random(400) < likely).astype(float), classes=True)
    assert np.abs(fit.predict(people) - likely).mean() < 0.06


def test_nothing_known_is_said():
    unknown = pd.DataFrame({"age": [np.nan] * 3, "sex": [np.nan] * 3})
    with pytest.raises(UserError, match="age and sex of no training subject are known"):
        fit_demographics(unknown, np.ones(3))
    with pytest.raises(UserError, match="no column sex"):
        fit_demographics(unknown[["age"]], np.ones(3))
    only_age = pd.DataFrame({"age": [5.0, 6, 7], "sex": [np.nan] * 3})
    predicted = fit_demographics(only_age, np.arange(3)).predict(only_age)
    np.testing.assert_allclose(predicted, [0, 1, 2], atol=1e-9)
