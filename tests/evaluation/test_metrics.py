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


def test_interval_resamples_subjects_not_windows():
    # Each subject answers all its windows alike: the windows add no certainty.
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{i}" for i in range(6)], 200)
    labels = np.tile([0, 1], 600)
    skill = np.repeat([1.0, -1.0, 1.0, -1.0, 1.0, 1.0], 200)
    odds = skill * (labels - 0.5) * 2 + random.normal(size=1200)
    logs = np.stack([-odds / 2, odds / 2], 1)
    interval = metrics.subject_interval(labels, logs, subjects, 300)
    assert interval.low < 0.45
    assert interval.high > 0.85
    assert interval.missing == ""


def test_too_few_subjects_or_classes_give_no_interval():
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{i}" for i in range(6)], 20)
    logs = answers(random, 120, 2)
    mixed = np.tile([0, 1], 60)
    few = metrics.subject_interval(mixed[:80], logs[:80], subjects[:80], 300)
    assert np.isnan(few[:2]).all()
    assert "4 test subjects are too few" in few.missing
    # one subject of six has the class: a third of the resamples lack it
    rare = (subjects == "s0").astype(int)
    one_class = metrics.subject_interval(rare, logs, subjects, 300)
    assert np.isnan(one_class[:2]).all()
    assert "of the resamples hold one class only" in one_class.missing
    half = np.isin(subjects, ["s0", "s1", "s2"]).astype(int)
    assert np.isfinite(metrics.subject_interval(half, logs, subjects, 300)[:2]).all()


def test_resamples_draw_whole_subjects_and_the_same_ones_for_every_score():
    subjects = np.array(list("abcabcabdd"))
    drawn = metrics.resampled(lambda chosen: np.bincount(chosen, minlength=10), subjects, 20)
    for subject in "abcd":
        counts = drawn[:, subjects == subject]
        assert (counts == counts[:, :1]).all()
    assert (drawn[:, [0, 1, 2, 8]].sum(1) == 4).all()
    again = metrics.resampled(lambda chosen: float(chosen.sum()), subjects, 20)
    np.testing.assert_array_equal(again, drawn @ np.arange(10))
