"""How subjects of a class differ."""

import numpy as np
import torch

from hbn_foundation.training.head_fitting import within_classes


def test_means_are_of_subjects_within_their_class():
    subjects = np.array(["a", "a", "b", "b", "b", "c"])
    classes = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    features = torch.randn(6, 3, dtype=torch.float64)
    found, weights = within_classes(features, subjects, classes)
    first, second = features[[0, 2, 3, 5]].mean(0), features[[1, 4]].mean(0)
    expected = [
        features[0] - first,
        features[2:4].mean(0) - first,
        features[5] - first,
        features[1] - second,
        features[4] - second,
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(weights, torch.tensor([1, 2, 1, 1, 1], dtype=torch.float64) / 6)


def test_a_class_with_one_subject_shows_no_difference():
    found, _ = within_classes(torch.randn(2, 2), np.array(["a", "b"]), np.array([0.0, 1.0]))
    assert not found.any()
