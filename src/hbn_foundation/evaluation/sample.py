"""Choose the windows that are scored: labelled, in a split, not too many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.targets import UNKNOWN, window_labels
from hbn_foundation.signals.windows import subsample
from hbn_foundation.training.control import shuffle_within


class LabelledWindows(NamedTuple):
    """Windows with their split and class; every method sees these and no others.

    Attributes
    ----------
    table
        The windows table with the columns `split` and `label` (class number) added.
    classes
        Name of each class.
    sample
        Of `count_sample`.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    sample: dict[str, dict[str, int]]

    @property
    def labels(self) -> np.ndarray:
        """Class of each window (N,)."""
        return self.table["label"].to_numpy()

    @property
    def splits(self) -> np.ndarray:
        """Split of each window (N,)."""
        return self.table["split"].to_numpy(dtype=str)


def labelled_windows(
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: EvaluationParams,
) -> LabelledWindows:
    """Label the windows of the three splits and thin each split evenly to at most `max_windows`.

    Raises
    ------
    UserError
        When the label cannot be made, or a split has no labelled window.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"])
    table = windows[split.notna()].assign(split=split.dropna()).reset_index(drop=True)
    train_subjects = splits.loc[splits["split"] == "train", "subject"]
    values, classes = window_labels(table, participants, params.label, train_subjects)
    if params.shuffle_labels:
        group = "recording" if params.label.kind == "task" else "subject"
        inside = table["split"].to_numpy(dtype=str)
        values = shuffle_within(values, table[group].to_numpy(), inside, params.seed)
    table = table.assign(label=values)
    table = table[table["label"] != UNKNOWN]
    sample = count_sample(table["split"], table["subject"], params.max_windows, thin_test=True)
    parts = []
    for number, name in enumerate(SPLITS):
        part = table[table["split"] == name]
        if part.empty:
            what = params.label.column or "task"
            raise UserError(f"evaluation: no window of the {name} subjects has a known {what}")
        parts.append(part.iloc[subsample(len(part), params.max_windows, params.seed + number)])
    return LabelledWindows(pd.concat(parts, ignore_index=True), classes, sample)


def count_sample(
    splits: pd.Series, subjects: pd.Series, max_windows: int, *, thin_test: bool = False
) -> dict[str, dict[str, int]]:
    """Count what scores are made of, for the line under a table.

    Parameters
    ----------
    splits, subjects
        Split and subject of each window with a label (N rows); other splits do not count.
    max_windows
        To how many windows a split is thinned.
    thin_test
        Whether the test windows are, too.

    Returns
    -------
    dict
        By split: `windows` (after thinning), `of` (before) and `subjects`.
    """
    counts = {}
    for name in SPLITS:
        inside = (splits == name).to_numpy()
        n = int(inside.sum())
        used = n if name == "test" and not thin_test else min(n, max_windows)
        counts[name] = {"windows": used, "of": n, "subjects": int(subjects[inside].nunique())}
    return counts
