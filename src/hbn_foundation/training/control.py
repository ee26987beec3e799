"""The control that must bring every score down to chance: labels permuted inside each split."""

from __future__ import annotations

import zlib
from collections.abc import Collection

import numpy as np

from hbn_foundation.labels.targets import shuffle_labels


def shuffle_within(
    values: np.ndarray, groups: np.ndarray, parts: np.ndarray, seed: int
) -> np.ndarray:
    """Permute labels across the groups of each part, one part at a time.

    Across parts nothing is exchanged: how often each class occurs in one split would tell how
    often it is left in another. What a part becomes depends on its own groups and the seed alone,
    so an encoder meets the same permuted labels in training and when it is evaluated.

    Parameters
    ----------
    values
        Integer classes (windows,); −1 is unknown.
    groups
        Recording or subject of each window (windows,).
    parts
        Split of each window (windows,).
    seed
        Another seed gives another permutation.
    """
    result = np.asarray(values).copy()
    for part in np.unique(parts):
        inside = parts == part
        own = seed + zlib.crc32(str(part).encode())  # whichever other parts there are
        result[inside] = shuffle_labels(result[inside], list(groups[inside]), own)
    return result


def parts_of(
    subjects: np.ndarray, train: Collection[str], validation: Collection[str]
) -> np.ndarray:
    """Split of each window (windows,) from its subject; who is in neither is held out."""
    inside = [np.isin(subjects, sorted(part)) for part in (train, validation)]
    return np.select(inside, ["train", "validation"], default="held out")
