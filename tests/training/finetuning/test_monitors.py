"""What is followed has the names that are promised, and logits may be of any scale."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hbn_foundation.scores import metrics_of
from hbn_foundation.training.losses import target_scores


@pytest.mark.parametrize("n_classes", [2, 3, None])
def test_every_promised_name_is_there(n_classes):
    random = np.random.default_rng(0)
    values = random.integers(2, size=30) if n_classes else random.normal(size=30)
    outputs = random.normal(size=(30, n_classes or 1))
    result = target_scores(values, outputs, random.normal(size=(30, 4)), n_classes)
    assert {"loss", *result} == set(metrics_of(n_classes is None))
    assert np.isfinite(list(result.values())).all()
    assert "fisher_ratio" not in target_scores(values, outputs, None, n_classes)


def test_three_classes_are_compared_as_probabilities():
    random = np.random.default_rng(1)
    labels = random.integers(3, size=200)
    logits = 3 * random.normal(size=(200, 3)) + 2 * np.eye(3)[labels]
    shifted = logits + 10 * random.normal(size=(200, 1))  # the same probabilities
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = roc_auc_score(labels, shares, multi_class="ovr")
    assert target_scores(labels, shifted, None, 3)["auroc"] == pytest.approx(expected)


def test_numbers_in_a_column_or_a_row():
    values = np.arange(5.0)
    row, column = (
        target_scores(values, values, None, None),
        target_scores(values, values[:, None], None, None),
    )
    assert row == column
    assert row["nrmse"] == 0
    assert row["r"] == pytest.approx(1)
