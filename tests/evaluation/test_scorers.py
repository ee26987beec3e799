"""Every metric has a direction and a name."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from hbn_foundation.evaluation.scorers import SCORERS, display_metric, scorer_of


@pytest.mark.parametrize(
    ("metric", "scorer", "better", "name"),
    [
        ("window_auroc", "auroc", True, "AUROC of windows"),
        ("recording_nrmse", "nrmse", False, "NRMSE of recordings"),
        ("window_nrmse_ahead", "nrmse", False, "NRMSE of windows"),
        ("balanced_accuracy", "balanced_accuracy", True, "balanced accuracy"),
        ("within_r", "within_r", True, "r inside subjects"),
    ],
)
def test_metrics_are_those_of_a_scorer(metric, scorer, better, name):
    found = scorer_of(metric)
    assert (found, found.greater_is_better) == (SCORERS[scorer], better)
    assert display_metric(metric) == name


@pytest.mark.parametrize("k", [2, 3])
def test_classes_are_scored_as_scikit_learn_does(k):
    random = np.random.default_rng(k)
    labels, logs = random.integers(k, size=300), np.log(random.dirichlet(np.ones(k), size=300))
    shares = np.exp(logs[:, 1]) if k == 2 else np.exp(logs)
    expected = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert SCORERS["auroc"].function(labels, logs) == pytest.approx(expected)
    expected = balanced_accuracy_score(labels, logs.argmax(1))
    assert SCORERS["balanced_accuracy"].function(labels, logs) == pytest.approx(expected)
    # a class that does not occur is left out, and one class alone has no score
    more = np.column_stack([logs, np.full(300, -9.0)])
    expected = np.mean([roc_auc_score(labels == n, logs[:, n]) for n in range(k)])
    assert SCORERS["auroc"].function(labels, more) == pytest.approx(expected)
    for name in ("auroc", "balanced_accuracy"):
        assert np.isnan(SCORERS[name].function(np.ones(5, int), np.zeros((5, k))))


def test_scores_within_subjects_are_means_of_those_that_have_one():
    random = np.random.default_rng(0)
    labels, subjects = random.integers(3, size=90), np.repeat(["a", "b", "c"], 30)
    labels[60:] = 1  # of one class: an accuracy, but no kappa and no F1
    logs = np.log(random.dirichlet(np.ones(3), size=90))
    predicted = logs.argmax(1)
    kappas = [
        cohen_kappa_score(labels[part], predicted[part]) for part in np.split(np.arange(60), 2)
    ]
    assert SCORERS["within_kappa"].function(labels, logs, subjects) == pytest.approx(
        np.mean(kappas)
    )
    right = (labels == predicted).reshape(3, 30).mean(1)
    assert SCORERS["within_accuracy"].function(labels, logs, subjects) == pytest.approx(
        right.mean()
    )
    assert SCORERS["kappa"].function(labels, logs) == pytest.approx(
        cohen_kappa_score(labels, predicted)
    )
    assert np.isnan(SCORERS["within_f1"].function(labels[60:], logs[60:], subjects[60:]))
