"""The control: permuted labels of one split say nothing about those of another."""

import numpy as np

from hbn_foundation.training.control import parts_of, shuffle_within

SUBJECTS = np.repeat([f"{n}" for n in range(9)], 4)
GROUPS = np.repeat([f"{n}-{task}" for n in range(9) for task in "ab"], 2)
TRUE = np.tile([0, 0, 1, 1], 9)
PARTS = parts_of(SUBJECTS, ["0", "1", "2", "3", "4"], ["5", "6"])


def test_permuted_labels_agree_with_the_truth_independently_in_each_split():
    agreement = []
    for seed in range(400):
        shuffled = shuffle_within(TRUE, GROUPS, PARTS, seed)
        agreement.append([(shuffled == TRUE)[part == PARTS].mean() for part in np.unique(PARTS)])
    means = np.mean(agreement, 0)
    np.testing.assert_allclose(means, 0.5, atol=0.05)
    between = np.corrcoef(np.transpose(agreement))[np.triu_indices(3, 1)]
    assert np.abs(between).max() < 0.15


def test_permuted_labels_do_not_depend_on_other_splits_or_windows():
    whole = shuffle_within(TRUE, GROUPS, PARTS, 3)
    assert (whole != TRUE).any()
    kept = np.arange(len(TRUE)) % 2 == 0  # fewer windows, no window of the last subjects
    kept &= PARTS != "held out"
    numbers = shuffle_within(TRUE[kept], GROUPS[kept], PARTS[kept], 3)
    np.testing.assert_array_equal(numbers, whole[kept])
    for part in np.unique(PARTS):
        assert whole[part == PARTS].mean() == 0.5
