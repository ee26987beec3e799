"""Give each window a class: its task, or what participants.tsv says about its subject."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.wording import some, written

UNKNOWN = -1
MOST_CATEGORIES = 5


class WindowLabels(NamedTuple):
    """The classes of windows.

    Attributes
    ----------
    values
        Class of each window, int64, in the order of the windows table; −1 where unknown.
    names
        Name of each class.
    """

    values: np.ndarray
    names: tuple[str, ...]


def window_labels(
    windows: pd.DataFrame,
    participants: pd.DataFrame,
    params: LabelParams,
    train_subjects: Iterable[str],
) -> WindowLabels:
    """Give each window a class; whatever must be fitted is fitted on the training subjects.

    Tasks and categories become classes in alphabetical order, as far as training subjects have
    them; what no training subject has is unknown (−1), for nothing can be learned about it. With
    `positive` there are two classes, those values (1) and all others (0). A numeric column is cut
    at `threshold`, by default at the median of the training subjects when it has more than five
    different values; the names say where (`age > 10.2`).

    Parameters
    ----------
    windows
        Windows table with `subject` and `task`.
    participants
        Table with the column `subject`.
    params
        What is to be told apart.
    train_subjects
        Subjects of the training split.

    Returns
    -------
    WindowLabels
        Classes and their names.

    Raises
    ------
    UserError
        When the column is missing, a positive value does not occur, a threshold is set for a
        column that is not numeric, or the training subjects have only one class.
    """
    training = windows["subject"].isin({str(subject) for subject in train_subjects}).to_numpy()
    if params.kind == "task":
        what, values, numeric = "task", windows["task"].astype(object), False
    else:
        what = str(params.column)
        column = _column(participants, what)
        values = windows["subject"].map(column).astype(object)
        numeric = _is_numeric(column, what, params.threshold)
    if params.positive:
        labels = _one_against_rest(values, training, params.positive, what)
    elif numeric:
        labels = _cut(values, windows["subject"], training, params.threshold, what)
    else:
        labels = _categories(values, training)
    present = set(labels.values[training].tolist()) - {UNKNOWN}
    if len(present) < 2:
        found = some(labels.names[index] for index in sorted(present)) or "none"
        raise UserError(
            f"labels: two classes of {what} or more are needed among the training subjects, "
            f"found {found}"
        )
    return labels


def task_labels(windows: pd.DataFrame) -> WindowLabels:
    """Give each window its task as its class, whichever subjects have it."""
    codes, tasks = pd.factorize(windows["task"], sort=True)
    return WindowLabels(codes.astype(np.int64), tuple(map(str, tasks)))


def shuffle_labels(values: np.ndarray, groups: Collection[object], seed: int = 0) -> np.ndarray:
    """Permute labels across groups: the control that must bring every score down to chance.

    Windows of one group keep a common label, as they have in truth; a permutation of windows
    would also take away what windows of a recording share, and so would be too easy to tell from
    the truth. Group by recording when the label belongs to the recording (its task), by subject
    when it belongs to the subject (a participants column). Unknown labels stay where they are;
    how many groups each class has stays the same.

    Parameters
    ----------
    values
        Integer classes (windows,); −1 is unknown.
    groups
        Recording or subject of each window (windows,).
    seed
        Another seed gives another permutation.

    Returns
    -------
    numpy.ndarray
        Permuted classes (windows,).

    Raises
    ------
    ValueError
        When a group has more than one label.
    """
    values = np.asarray(values)
    names, first, group = np.unique(
        np.asarray(list(groups), dtype=str), return_index=True, return_inverse=True
    )
    of_group = values[first]
    mixed = np.unique(group[of_group[group] != values])
    if len(mixed):
        raise ValueError(f"groups with more than one label: {some(names[mixed])}")
    known = np.flatnonzero(of_group != UNKNOWN)
    shuffled = of_group.copy()
    shuffled[known] = of_group[np.random.default_rng(seed).permutation(known)]
    return shuffled[group]


def _column(participants: pd.DataFrame, name: str) -> pd.Series:
    columns = [column for column in participants.columns if column != "subject"]
    if name not in columns:
        found = ", ".join(map(str, columns)) or "no columns"
        raise UserError(f"labels: column {name} is not in participants.tsv, which has {found}")
    return participants.set_index("subject")[name]


def _is_numeric(column: pd.Series, name: str, threshold: float | None) -> bool:
    """Tell whether a column is cut; one of a few numbers, such as 0 and 1, is a category."""
    known = column.dropna()
    numbers = bool(len(known)) and bool(pd.to_numeric(known, errors="coerce").notna().all())
    if threshold is not None and not numbers:
        raise UserError(f"labels: threshold is set, but the values of {name} are not numbers")
    return threshold is not None or (numbers and known.nunique() > MOST_CATEGORIES)


def _categories(values: pd.Series, training: np.ndarray) -> WindowLabels:
    names = sorted({written(value) for value in values[training].dropna()})
    number = {name: index for index, name in enumerate(names)}
    classes = [
        UNKNOWN if pd.isna(value) else number.get(written(value), UNKNOWN) for value in values
    ]
    return WindowLabels(np.array(classes, dtype=np.int64), tuple(names))


def _one_against_rest(
    values: pd.Series, training: np.ndarray, positive: Collection[str], what: str
) -> WindowLabels:
    texts = values.map(written, na_action="ignore")
    found = sorted(set(texts[training].dropna()))
    absent = [value for value in positive if value not in found]
    if absent:
        raise UserError(
            f"labels: positive names {', '.join(absent)}, but {what} of the training subjects is "
            f"{some(found, 10) or 'never known'}"
        )
    classes = np.where(texts.isin(list(positive)), 1, 0)
    classes[texts.isna().to_numpy()] = UNKNOWN
    rest = [name for name in found if name not in positive]
    other = rest[0] if len(rest) == 1 else f"not {' or '.join(positive)}"
    return WindowLabels(classes.astype(np.int64), (other, " or ".join(positive)))


def _cut(
    values: pd.Series,
    subjects: pd.Series,
    training: np.ndarray,
    threshold: float | None,
    what: str,
) -> WindowLabels:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    if threshold is None:
        # Each subject counts once, however many windows it has.
        of_subject = pd.Series(numbers[training]).groupby(subjects[training].to_numpy()).first()
        threshold = float(of_subject.median())
        if threshold >= of_subject.max():
            lower = of_subject[of_subject < threshold]
            threshold = float(lower.max()) if len(lower) else threshold
    classes = np.where(numbers > threshold, 1, 0)
    classes[np.isnan(numbers)] = UNKNOWN
    return WindowLabels(
        classes.astype(np.int64), (f"{what} ≤ {threshold:.4g}", f"{what} > {threshold:.4g}")
    )
