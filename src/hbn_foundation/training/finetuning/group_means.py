"""Means of features by subject and class, from which it shows how subjects of a class differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor


class GroupMeans:
    """Running means of features by subject and class.

    Parameters
    ----------
    groups
        (N,) the number of each window's group, one for each subject in each class; negative for a
        window that does not count.
    classes
        (G,) the class of each group.
    n_features
        Length F of a feature vector.
    """

    def __init__(self, groups: np.ndarray, classes: np.ndarray, n_features: int) -> None:
        self.groups = torch.from_numpy(groups)
        self.classes = torch.from_numpy(classes)
        self.sums = torch.zeros(len(classes), n_features, dtype=torch.float64)
        self.counts = torch.zeros(len(classes), dtype=torch.float64)

    @classmethod
    def of(cls, subjects: np.ndarray, values: np.ndarray, n_features: int) -> GroupMeans:
        """Make groups of the windows' subjects (N,) and classes (N,), NaN where unknown."""
        known = ~np.isnan(values)
        table = pd.DataFrame({"class": values[known], "subject": subjects[known]})
        grouped = table.groupby(["class", "subject"], sort=True)
        groups = np.full(len(values), -1, dtype=np.int64)
        groups[known] = grouped.ngroup()
        classes = grouped["class"].first().to_numpy(dtype=np.int64)
        return cls(groups, classes, n_features)

    def add(self, features: Tensor, index: Tensor) -> None:
        """Add features (B, F) of the windows at these places (B,)."""
        groups = self.groups[index]
        counts = groups >= 0
        self.sums.index_add_(0, groups[counts], features[counts].double())
        self.counts += torch.bincount(groups[counts], minlength=len(self.counts))

    def within_classes(self) -> tuple[Tensor, Tensor]:
        """Means (G, F) less the mean of their class, and the groups' shares (G,)."""
        seen = self.counts > 0
        sums, counts, classes = self.sums[seen], self.counts[seen], self.classes[seen]
        means = sums / counts[:, None]
        for one in classes.unique():
            mine = classes == one
            means[mine] -= sums[mine].sum(0) / counts[mine].sum()
        return means, counts / counts.sum()
