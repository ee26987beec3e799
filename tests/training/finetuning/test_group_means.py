"""How subjects of a class differ, from means that are summed batch by batch."""

import numpy as np
import torch

from hbn_foundation.training.finetuning.group_means import GroupMeans

SUBJECTS = np.array(["a", "a", "b", "b", "b", "a", "c"])
CLASSES = np.array([0.0, 1.0, 0.0, 0.0, 1.0, np.nan, 0.0])


def test_means_are_of_subjects_within_their_class():
    features = torch.randn(7, 3, dtype=torch.float64)
    means = GroupMeans.of(SUBJECTS, CLASSES, 3)
    for index in torch.arange(7).split(2):
        means.add(features[index], index)
    found, weights = means.within_classes()
    first, second = features[[0, 2, 3, 6]].mean(0), features[[1, 4]].mean(0)
    expected = [
        features[0] - first,
        features[2:4].mean(0) - first,
        features[6] - first,
        features[1] - second,
        features[4] - second,
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(weights, torch.tensor([1, 2, 1, 1, 1], dtype=torch.float64) / 6)


def test_groups_of_which_no_window_was_usable_do_not_count():
    means = GroupMeans.of(SUBJECTS, CLASSES, 2)
    means.add(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 2]))
    found, weights = means.within_classes()
    torch.testing.assert_close(found, torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64))
    assert weights.tolist() == [0.5, 0.5]


def test_a_class_with_one_subject_shows_no_difference():
    means = GroupMeans.of(np.array(["a", "b"]), np.array([0.0, 1.0]), 2)
    means.add(torch.randn(2, 2), torch.tensor([0, 1]))
    assert not means.within_classes()[0].any()
