"""Linear models choose their strength on validation windows or folds, and learn from training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from hbn_foundation.scores import auroc
from hbn_foundation.training.linear_probe import (
    Cases,
    Standardiser,
    cross_validated,
    fit_probe,
    fit_ridge,
    majority_log_probabilities,
)

STRENGTHS = (1e-3, 1e-2, 0.1)


def data(seed: int = 0, n: int = 300, k: int = 2, shift: float = 1.0):
    random = np.random.default_rng(seed)
    labels = random.integers(k, size=n)
    features = random.normal(size=(n, 12))
    features[np.arange(n), labels] += shift
    splits = np.repeat(["train", "validation", "test"], n // 3)
    return features, labels, splits


@pytest.mark.parametrize("k", [2, 3])
def test_a_probe_finds_what_is_there(k):
    features, labels, splits = data(k=k, shift=2.0)
    test = splits == "test"
    probe = fit_probe(features, Cases(labels, splits), k, STRENGTHS)
    answer = probe.log_probabilities(features[test])
    assert auroc(labels[test], answer) > 0.85
    np.testing.assert_allclose(np.exp(answer).sum(1), 1, rtol=1e-5)


def test_test_windows_change_nothing_and_validation_windows_are_not_fitted():
    features, labels, splits = data()
    test, held = splits == "test", splits == "validation"
    probe = fit_probe(features, Cases(labels, splits), 2, STRENGTHS)
    moved = np.where(test[:, None], 1e3, features)
    again = fit_probe(moved, Cases(np.where(test, 1 - labels, labels), splits), 2, STRENGTHS)
    assert again.strength == probe.strength
    expected = probe.log_probabilities(features)
    np.testing.assert_array_equal(again.log_probabilities(features), expected)
    first, second = (
        fit_probe(features, Cases(given, splits), 2, STRENGTHS[:1])
        for given in (labels, np.where(held, 1 - labels, labels))
    )
    expected = first.log_probabilities(features)
    np.testing.assert_array_equal(second.log_probabilities(features), expected)
    assert second.validation_auroc == pytest.approx(1 - first.validation_auroc)


def test_rare_class_is_not_ignored():
    features, labels, splits = data(n=900, shift=1.5)
    keep = (labels == 0) | (np.random.default_rng(0).random(900) < 0.1)
    features, labels, splits = features[keep], labels[keep], splits[keep]
    probe = fit_probe(features, Cases(labels, splits), 2, STRENGTHS)
    rare = (splits == "test") & (labels == 1)
    assert (probe.log_probabilities(features[rare]).argmax(1) == 1).mean() > 0.6


def test_missing_measurements_become_the_training_mean():
    features = np.array([[1.0, np.nan], [3.0, 4.0], [np.nan, 8.0]])
    standardised = Standardiser.fit(features, "feature")(features)
    assert standardised[0, 1] == 0
    assert standardised[2, 0] == 0
    assert np.isfinite(Standardiser.fit(features[:, [1]] * np.nan, "feature")(features)).all()


@pytest.mark.parametrize("width", [5, 500])
def test_global_scaling_keeps_the_variances_and_fixes_the_norm(width):
    features = np.random.default_rng(0).normal(size=(400, width)) * np.linspace(0.1, 3, width)
    standardised = Standardiser.fit(features, "global")(features)
    assert (standardised**2).sum(1).mean() == pytest.approx(100, rel=1e-3)
    ratio = standardised.std(0) / features.std(0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_one_class_among_validation_windows_takes_the_middle():
    features, labels, splits = data()
    labels[splits == "validation"] = 0
    assert fit_probe(features, Cases(labels, splits), 2, STRENGTHS).strength == 1e-2


def test_majority_answers_with_the_shares():
    answer = majority_log_probabilities(np.array([0, 1, 1, 1]), 3, 2)
    np.testing.assert_allclose(np.exp(answer), [[0.25, 0.75, 0]] * 2, atol=1e-9)


def test_certain_answers_keep_their_order():
    features, labels, splits = data(shift=50.0)
    probe = fit_probe(features, Cases(labels, splits), 2, (100.0,))
    answer = probe.log_probabilities(np.concatenate([features, features * 1e4]))
    assert np.isfinite(answer).all()
    assert len(np.unique(answer[:, 1] - answer[:, 0])) > len(features)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_its_linear_map_gives_its_log_probabilities(k):
    features, labels, splits = data(k=3 if k == 4 else k)  # of four classes one has no window
    features = 5 + 2 * features
    probe = fit_probe(features, Cases(labels, splits), k, STRENGTHS)
    weights, offsets = probe.linear_map()
    assert weights.shape == (k, 12)
    logits = features @ weights.T + offsets
    expected = probe.log_probabilities(features)
    known = slice(0, 3 if k == 4 else k)
    differences = logits[:, known] - logits[:, :1]
    np.testing.assert_allclose(differences, expected[:, known] - expected[:, :1], atol=1e-4)
    if k == 4:
        assert logits[:, 3].max() < -500
        assert not (expected.argmax(1) == 3).any()


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
def test_the_linear_map_of_ridge_gives_what_it_predicts(scaling):
    random = np.random.default_rng(1)
    features = 3 + random.normal(size=(90, 6)) * np.arange(1, 7)
    values = 40 + features[:, 2] + random.normal(size=90)
    splits = np.repeat(["train", "validation", "test"], 30)
    ridge = fit_ridge(features, values, splits, (1.0,), scaling)
    weights, offsets = ridge.linear_map()
    assert weights.shape == (1, 6)
    found = (features @ weights.T + offsets)[:, 0]
    np.testing.assert_allclose(found, ridge.predict(features), rtol=1e-5)


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

    def chosen(groups=None):
        return fit_ridge(features, values, splits, (1e-5, 1.0), subjects=groups).strength

    assert chosen() == 1.0
    assert chosen(subjects) == 1e-5
    # with a number that the features do tell, folds choose a weak penalty, whatever is validated
    values = 5 * own[:, 0]
    values[held] = random.permutation(5).repeat(20)
    assert chosen(subjects) == 1.0
    # numbers that differ within subjects are many cases: the validation windows choose
    values = features[:, 0] + random.normal(size=1200)
    assert chosen(subjects) == chosen()


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


def stratified(seed: int = 0, n: int = 900):
    """Windows of 30 subjects, 4 of them rare, in whom drift tells the other class."""
    random = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(30), n // 30)
    strata = np.where(subjects % 8 == 0, "rare", "usual")
    labels = random.integers(2, size=n)
    drift = (2 * labels - 1) * np.where(strata == "rare", -1, 1)
    features = random.normal(size=(n, 6))
    features[:, 0] += 0.8 * (2 * labels - 1)
    features[:, 1] += 2.0 * drift
    splits = np.where(subjects < 16, "train", np.where(subjects < 24, "validation", "test"))
    return features, Cases(labels, splits, subjects.astype(str), strata)


def test_with_strata_a_probe_does_not_learn_what_differs_in_the_rare_one():
    features, cases = stratified()
    rare = (cases.splits == "test") & (cases.strata == "rare")
    plain = fit_probe(features, cases._replace(strata=None), 2, (1.0,))
    fair = fit_probe(features, cases, 2, (1.0,))
    of_plain, of_fair = (
        auroc(cases.labels[rare], probe.log_probabilities(features[rare]))
        for probe in (plain, fair)
    )
    assert of_plain < 0.5
    assert of_fair > 0.7
    weights = np.abs(fair.linear_map()[0][1])
    assert weights[1] < 0.2 * weights[0]


def test_one_stratum_is_none():
    features, cases = stratified()
    one = cases._replace(strata=np.full(len(features), "all"))
    plain = fit_probe(features, cases._replace(strata=None), 2, (1e-2,))
    same = fit_probe(features, one, 2, (1e-2,))
    np.testing.assert_allclose(
        same.log_probabilities(features), plain.log_probabilities(features), atol=1e-3
    )
    assert plain.validation_auroc == auroc(
        cases.labels[cases.splits == "validation"],
        plain.log_probabilities(features[cases.splits == "validation"]),
    )


def test_the_strength_is_chosen_within_subjects():
    """What tells subjects apart tells their share of a class, and must choose nothing."""
    features, cases = stratified()
    held = cases.splits == "validation"
    probe = fit_probe(features, cases, 2, STRENGTHS)
    logs = probe.log_probabilities(features[held])
    expected = [
        np.mean([
            auroc(cases.labels[held][mine], logs[mine])
            for subject in np.unique(cases.subjects[held][cases.strata[held] == level])
            for mine in [cases.subjects[held] == subject]
        ])
        for level in ("rare", "usual")
    ]  # fmt: skip
    assert probe.validation_auroc == pytest.approx(np.mean(expected))
