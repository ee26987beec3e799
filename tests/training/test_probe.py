"""The frozen probe chooses on validation windows and learns from training windows alone."""

from __future__ import annotations

import numpy as np
import pytest

from hbn_foundation.scores import auroc
from hbn_foundation.training.linear_probe import Standardiser, fit_probe, majority_log_probabilities

STRENGTHS = (1e-3, 1e-2, 0.1)


def data(seed: int = 0, n: int = 300, k: int = 2, shift: float = 1.0):
    random = np.random.default_rng(seed)
    labels = random.integers(k, size=n)
    features = random.normal(size=(n, 12))
    features[np.arange(n), labels] += shift
    splits = np.repeat(["train", "validation", "test"], n // 3)
    return features, labels, splits


@pytest.mark.parametrize("k", [2, 3])
def test_it_finds_what_is_there(k):
    features, labels, splits = data(k=k, shift=2.0)
    probe = fit_probe(features, labels, splits, k, STRENGTHS)
    answer = probe.log_probabilities(features[splits == "test"])
    assert auroc(labels[splits == "test"], answer) > 0.85
    np.testing.assert_allclose(np.exp(answer).sum(1), 1, rtol=1e-5)


def test_test_windows_change_nothing():
    features, labels, splits = data()
    test = splits == "test"
    probe = fit_probe(features, labels, splits, 2, STRENGTHS)
    other = features.copy()
    other[test] = 1e3
    flipped = np.where(test, 1 - labels, labels)
    again = fit_probe(other, flipped, splits, 2, STRENGTHS)
    assert again.strength == probe.strength
    np.testing.assert_array_equal(
        again.log_probabilities(features), probe.log_probabilities(features)
    )


def test_validation_windows_are_not_fitted():
    features, labels, splits = data()
    probe = fit_probe(features, labels, splits, 2, STRENGTHS[:1])
    held = splits == "validation"
    again = fit_probe(features, np.where(held, 1 - labels, labels), splits, 2, STRENGTHS[:1])
    np.testing.assert_array_equal(
        again.log_probabilities(features), probe.log_probabilities(features)
    )
    assert again.validation_auroc == pytest.approx(1 - probe.validation_auroc)


def test_rare_class_is_not_ignored():
    features, labels, splits = data(n=900, shift=1.5)
    keep = (labels == 0) | (np.random.default_rng(0).random(900) < 0.1)
    features, labels, splits = features[keep], labels[keep], splits[keep]
    probe = fit_probe(features, labels, splits, 2, STRENGTHS)
    test = splits == "test"
    predicted = probe.log_probabilities(features[test]).argmax(1)
    assert (predicted[labels[test] == 1] == 1).mean() > 0.6


def test_missing_measurements_become_the_training_mean():
    features = np.array([[1.0, np.nan], [3.0, 4.0], [np.nan, 8.0]])
    standardised = Standardiser.fit(features, "feature")(features)
    assert standardised[0, 1] == 0
    assert standardised[2, 0] == 0
    assert np.isfinite(Standardiser.fit(features[:, [1]] * np.nan, "feature")(features)).all()


def test_global_scaling_keeps_the_variances_and_fixes_the_norm():
    random = np.random.default_rng(0)
    for width in (5, 500):
        features = random.normal(size=(400, width)) * np.linspace(0.1, 3, width)
        standardised = Standardiser.fit(features, "global")(features)
        assert (standardised**2).sum(1).mean() == pytest.approx(100, rel=1e-3)
        ratio = standardised.std(0) / features.std(0)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_one_class_among_validation_windows_takes_the_middle():
    features, labels, splits = data()
    labels[splits == "validation"] = 0
    assert fit_probe(features, labels, splits, 2, STRENGTHS).strength == 1e-2


def test_majority_answers_with_the_shares():
    answer = majority_log_probabilities(np.array([0, 1, 1, 1]), 3, 2)
    np.testing.assert_allclose(np.exp(answer), [[0.25, 0.75, 0]] * 2, atol=1e-9)


def test_certain_answers_keep_their_order():
    features, labels, splits = data(shift=50.0)
    probe = fit_probe(features, labels, splits, 2, (100.0,))
    answer = probe.log_probabilities(np.concatenate([features, features * 1e4]))
    assert np.isfinite(answer).all()
    assert len(np.unique(answer[:, 1] - answer[:, 0])) > len(features)


def test_a_class_without_training_windows_is_never_answered():
    features, labels, splits = data(k=3, shift=3.0)
    labels[(splits == "train") & (labels == 1)] = 0
    answer = fit_probe(features, labels, splits, 3, STRENGTHS).log_probabilities(features)
    assert not (answer.argmax(1) == 1).any()


@pytest.mark.parametrize("k", [2, 3, 4])
def test_its_linear_map_gives_its_log_probabilities(k):
    features, labels, splits = data(k=3 if k == 4 else k)  # of four classes one has no window
    features = 5 + 2 * features
    probe = fit_probe(features, labels, splits, k, STRENGTHS)
    weights, offsets = probe.linear_map()
    assert weights.shape == (k, 12)
    logits = features @ weights.T + offsets
    expected = probe.log_probabilities(features)
    known = slice(0, 3 if k == 4 else k)
    differences = logits[:, known] - logits[:, :1]
    np.testing.assert_allclose(differences, expected[:, known] - expected[:, :1], atol=1e-4)
    if k == 4:
        assert logits[:, 3].max() < -500
