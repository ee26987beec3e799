"""Scores agree with scikit-learn, NumPy and what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, pearsonr
from sklearn.metrics import f1_score, r2_score, root_mean_squared_error

from hbn_foundation import scores
from hbn_foundation.errors import UserError


def test_f1_as_scikit_learn():
    random = np.random.default_rng(0)
    for k in (2, 4):
        labels, predicted = random.integers(k, size=(2, 200))
        expected = f1_score(labels, predicted, average="macro")
        assert scores.macro_f1(labels, predicted) == pytest.approx(expected)


def test_a_class_that_does_not_occur_is_left_out_of_f1():
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert scores.macro_f1(labels, predicted) == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(scores.macro_f1(labels[:2], predicted[:2]))
    assert scores.accuracy(labels, predicted) == 0.75


def test_fisher_ratio_by_hand():
    # class means −1 and 3 in the first column; (4 items · 2²) / (2 · 1² + 2 · 1²)
    features = np.array([[-2.0, 5], [0, 5], [2, 5], [4, 5]])
    assert scores.fisher_ratio(np.array([0, 0, 1, 1]), features) == pytest.approx(4.0)


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 100))
def test_fisher_ratio_knows_no_scale(factor, shift, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    features = random.normal(size=(60, 5)) + labels[:, None]
    ratio = scores.fisher_ratio(labels, features)
    assert scores.fisher_ratio(labels, factor * features + shift) == pytest.approx(ratio, rel=1e-4)


def test_fisher_ratio_of_noise_is_small_and_grows_with_the_distance():
    random = np.random.default_rng(0)
    labels = np.arange(1000) % 2
    noise = random.normal(size=(1000, 3))
    ratios = [scores.fisher_ratio(labels, noise + gap * labels[:, None]) for gap in (0, 1, 2)]
    assert ratios[0] < 0.01
    assert ratios[0] < ratios[1] < ratios[2]
    assert ratios[2] == pytest.approx(1.0, abs=0.1)


def test_fisher_ratio_that_does_not_exist():
    assert np.isnan(scores.fisher_ratio(np.zeros(4, int), np.eye(4)))
    assert np.isnan(scores.fisher_ratio(np.array([0, 0, 1, 1]), np.ones((4, 2)) / 3))


def test_numbers_as_others_compute_them():
    random = np.random.default_rng(0)
    values, predicted = random.normal(3, 2, size=(2, 100))
    rmse = root_mean_squared_error(values, predicted)
    assert scores.nrmse(values, predicted) == pytest.approx(rmse / np.std(values))
    assert scores.r2(values, predicted) == pytest.approx(r2_score(values, predicted))
    expected = np.corrcoef(values, predicted)[0, 1]
    assert scores.pearson_r(values, predicted) == pytest.approx(expected)
    assert scores.mae(values, predicted) == pytest.approx(np.abs(values - predicted).mean())


def test_the_mean_scores_one_and_correlates_with_nothing():
    values = np.array([1.0, 2.0, 6.0])
    mean = np.full(3, values.mean())
    assert scores.nrmse(values, mean) == pytest.approx(1.0)
    assert scores.r2(values, mean) == pytest.approx(0.0)
    assert np.isnan(scores.pearson_r(values, mean))
    assert np.isnan(scores.pearson_r(values, mean + np.array([0, 1e-13, 0])))
    assert np.isnan(scores.nrmse(mean, values))
    assert np.isnan(scores.nrmse(np.full(93, 12.88), np.zeros(93)))


def within_group_r(*arguments: np.ndarray) -> float:
    return scores.mean_r(*scores.group_fisher_z(*arguments))


def test_correlation_within_groups_by_hand():
    random = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c", "few"], [10, 25, 8, 3])
    values, predicted = random.normal(size=(2, len(groups)))
    predicted += 0.5 * values
    z, sizes = [], []
    for name in "abc":
        inside = groups == name
        z.append(np.arctanh(pearsonr(values[inside], predicted[inside]).statistic))
        sizes.append(inside.sum())
    expected = np.tanh(np.average(z, weights=np.array(sizes) - 3))
    assert within_group_r(values, predicted, groups) == pytest.approx(expected)
    # a group whose answers are all the same tells nothing
    predicted[groups == "c"] = 1.0
    expected = np.tanh(np.average(z[:2], weights=[7, 22]))
    assert within_group_r(values, predicted, groups) == pytest.approx(expected)
    assert np.isnan(within_group_r(values[-3:], predicted[-3:], groups[-3:]))
    assert np.isfinite(within_group_r(values, values, groups))


@given(st.integers(0, 100), st.floats(-50, 50))
def test_correlation_within_groups_knows_no_groups_mean(seed, shift):
    random = np.random.default_rng(seed)
    groups = np.repeat(["a", "b", "c"], 9)
    values, predicted = random.normal(size=(2, 27))
    moved = predicted + shift * (groups == "b")
    found = within_group_r(values, moved, groups)
    assert found == pytest.approx(within_group_r(values, predicted, groups), abs=1e-6)


def test_partial_correlation_from_the_inverse_of_all_correlations():
    random = np.random.default_rng(1)
    given_ = random.normal(size=(60, 2)) * [4.0, 0.5] + [12, 0.5]
    values = given_ @ [0.2, 1.0] + random.normal(size=60)
    predicted = 0.4 * values + given_ @ [0.3, -1.0] + random.normal(size=60)
    inverse = np.linalg.inv(np.corrcoef(np.column_stack([values, predicted, given_]).T))
    expected = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert scores.partial_r(values, predicted, given_) == pytest.approx(expected)
    # one variable given: the formula of the textbook
    r = np.corrcoef(np.column_stack([values, predicted, given_[:, 0]]).T)
    textbook = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert scores.partial_r(values, predicted, given_[:, :1]) == pytest.approx(textbook)


def test_nothing_is_left_of_a_prediction_from_what_is_given():
    random = np.random.default_rng(2)
    given_ = random.normal(size=(30, 2))
    values = random.normal(size=30)
    assert np.isnan(scores.partial_r(values, given_ @ [0.3, 0.1] + 2, given_))
    assert np.isnan(scores.partial_r(values[:4], values[:4], given_[:4]))


@given(st.integers(0, 100), st.floats(-5, 5), st.floats(-5, 5))
def test_partial_correlation_knows_nothing_of_what_is_given(seed, first, second):
    random = np.random.default_rng(seed)
    given_ = random.normal(size=(40, 2))
    values, predicted = random.normal(size=(2, 40))
    moved = predicted + given_ @ [first, second] + 1.0
    expected = scores.partial_r(values, predicted, given_)
    assert scores.partial_r(values, moved, given_) == pytest.approx(expected, abs=1e-6)


def test_calibration_slope_is_that_of_a_regression():
    random = np.random.default_rng(3)
    values = random.normal(size=80)
    predicted = 0.3 * values + 0.2 * random.normal(size=80) + 5
    expected = linregress(predicted, values).slope
    assert scores.calibration_slope(values, predicted) == pytest.approx(expected)
    assert scores.calibration_slope(values, 2 * predicted) == pytest.approx(expected / 2)
    assert np.isnan(scores.calibration_slope(values, np.ones(80)))


def test_names_of_scores():
    assert "train_f1" in scores.KNOWN_METRICS
    assert "nrmse" in scores.metrics_of(True)
    assert not scores.higher_is_better("train_nrmse")
    assert scores.higher_is_better("auroc")
    scores.check_metric("f1", "plan.gate_metric", is_regression=False)
    scores.check_metric("train_loss", "plan.gate_metric")
    with pytest.raises(UserError, match=r"plan.gate_metric: f1 is not computed for regression"):
        scores.check_metric("f1", "plan.gate_metric", is_regression=True)
    with pytest.raises(UserError, match="kappa is not computed; known: loss, f1"):
        scores.check_metric("kappa", "plan.gate_metric")


def test_auroc_within_subjects_by_hand():
    """Two subjects of one stratum at 1 and 0.5, one of another at 0; one of one class is out."""
    answers = np.array([0.0, 1, 5, 5, 1, 0, 2, 3])
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 1])
    subjects = np.array(["b", "b", "a", "a", "c", "c", "d", "d"])
    strata = np.array(["x", "x", "x", "x", "y", "y", "y", "y"])
    logs = np.stack([np.zeros(8), answers], 1)
    names, areas = scores.subject_aurocs(labels, logs, subjects)
    assert names.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(areas, [0.5, 1.0, 0.0, np.nan])
    assert scores.within_auroc(labels, logs, subjects, strata) == pytest.approx(0.375)
    shifted = logs + 100 * (subjects == "a")[:, None] * np.array([0, 1])
    assert scores.within_auroc(labels, shifted, subjects, strata) == pytest.approx(0.375)
    assert np.isnan(scores.within_auroc(labels[:0], logs[:0], subjects[:0], strata[:0]))
    assert np.isnan(scores.within_auroc(labels[6:], logs[6:], subjects[6:], strata[6:]))


def test_a_mean_over_strata_needs_all_of_them():
    values, strata = np.array([1.0, 0.5, 0.0]), np.array([0, 0, 1])
    assert scores.stratified_mean(values, strata, 2) == pytest.approx(0.375)
    assert np.isnan(scores.stratified_mean(values, strata, 3))


def test_the_score_within_subjects_is_of_classes():
    scores.check_metric("within_auroc", "trainer.monitor", False)
    with pytest.raises(UserError, match=r"trainer.monitor: within_auroc is not computed for reg"):
        scores.check_metric("within_auroc", "trainer.monitor", True)
