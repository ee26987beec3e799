"""Scores agree with scikit-learn and with what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from hbn_foundation.evaluation import metrics


def answers(random: np.random.Generator, n: int, k: int) -> np.ndarray:
    return np.log(random.dirichlet(np.ones(k), size=n))


def test_two_classes_as_scikit_learn():
    random = np.random.default_rng(0)
    labels, logs = random.integers(2, size=200), answers(random, 200, 2)
    assert metrics.auroc(labels, logs) == pytest.approx(roc_auc_score(labels, np.exp(logs[:, 1])))
    assert metrics.balanced_accuracy(labels, logs.argmax(1)) == pytest.approx(
        balanced_accuracy_score(labels, logs.argmax(1))
    )


def test_three_classes_macro_one_against_rest():
    random = np.random.default_rng(1)
    labels, logs = random.integers(3, size=300), answers(random, 300, 3)
    expected = roc_auc_score(labels, np.exp(logs), multi_class="ovr", average="macro")
    assert metrics.auroc(labels, logs) == pytest.approx(expected)


def test_class_that_does_not_occur_is_left_out():
    random = np.random.default_rng(2)
    labels, logs = random.integers(2, size=100), answers(random, 100, 3)
    expected = np.mean([roc_auc_score(labels == k, logs[:, k]) for k in (0, 1)])
    assert metrics.auroc(labels, logs) == pytest.approx(expected)


def test_one_class_has_no_auroc():
    assert np.isnan(metrics.auroc(np.ones(5, int), np.zeros((5, 2))))
    assert np.isnan(metrics.balanced_accuracy(np.ones(5, int), np.ones(5, int)))


def test_constant_answer_is_chance_for_recordings_of_any_length():
    labels = np.repeat([0, 1, 0, 1], [3, 7, 11, 13])
    recordings = np.repeat(["a", "b", "c", "d"], [3, 7, 11, 13])
    logs = np.log(np.tile([0.3, 0.7], (len(labels), 1)))
    scores = metrics.classification_scores(labels, logs, recordings)
    assert scores["window_auroc"] == 0.5
    assert scores["recording_auroc"] == 0.5
    assert scores["confusion_matrix"] == [[0, 14], [0, 20]]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(0, 1000))
def test_recordings_do_not_depend_on_the_order_of_windows(lengths, seed):
    random = np.random.default_rng(seed)
    recordings = np.repeat([f"r{i}" for i in range(len(lengths))], lengths)
    labels = np.repeat(np.arange(len(lengths)) % 2, lengths)
    logs = answers(random, len(labels), 2)
    order = random.permutation(len(labels))
    plain = metrics.by_recording(labels, logs, recordings)
    mixed = metrics.by_recording(labels[order], logs[order], recordings[order])
    np.testing.assert_array_equal(plain[0], mixed[0])
    np.testing.assert_allclose(plain[1], mixed[1])
    np.testing.assert_allclose(plain[1][0], logs[recordings == "r0"].mean(0))


def test_classes_that_change_within_a_recording_are_no_class_of_recordings():
    labels = np.array([0, 1, 1, 1, 0, 0])
    recordings = np.repeat(["r1", "r2", "r3"], 2)
    logs = answers(np.random.default_rng(0), 6, 2)
    scores = metrics.classification_scores(labels, logs, recordings)
    for name in ("recording_auroc", "recording_balanced_accuracy", "recording_f1"):
        assert np.isnan(scores[name])
    assert np.isfinite(scores["window_auroc"])
    whole, pooled = metrics.by_recording(labels, logs, recordings)
    assert (whole.shape, pooled.shape) == ((0,), (0, 2))
