"""Give each window a class or a number: of its task, of its subject or of its trial."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, as_text, first_few
from hbn_foundation.labels.params import LabelParams

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


class WindowTargets(NamedTuple):
    """What is to be learned about windows: a class or a number.

    Attributes
    ----------
    values
        In the order of the windows table: int64 classes, −1 where unknown, or float64 numbers,
        NaN where unknown.
    names
        Name of each class; the name of the column alone for a number.
    is_regression
        Whether the values are numbers.
    mean, sd
        Of the numbers over the training subjects, or over their trials, each counted once (ddof
        0); 0 and 1 for classes.
    """

    values: np.ndarray
    names: tuple[str, ...]
    is_regression: bool = False
    mean: float = 0.0
    sd: float = 1.0

    @property
    def known(self) -> np.ndarray:
        """Which windows (N,) have a value."""
        return is_known(self.values)

    @property
    def n_outputs(self) -> int:
        """How many outputs a model of them has: one per class, or one."""
        return len(self.names)


def is_known(values: np.ndarray) -> np.ndarray:
    """Tell which values are known: classes other than −1, numbers other than NaN."""
    return ~np.isnan(values) if np.issubdtype(values.dtype, np.floating) else values != UNKNOWN


def window_targets(
    windows: pd.DataFrame,
    participants: pd.DataFrame,
    params: LabelParams,
    train_subjects: Iterable[str],
) -> WindowTargets:
    """Give each window a class as `window_labels` does, or the number of its subject or trial.

    Parameters
    ----------
    windows
        Windows table with `subject` and `task`; for labels of trials as `cut_trial_windows`
        gives it.
    participants
        Table with the column `subject`.
    params
        What is to be learned; its type `regression` asks for the number.
    train_subjects
        Subjects of the training split.

    Returns
    -------
    WindowTargets

    Raises
    ------
    UserError
        As `window_labels`; for regression when a value of the column is not a number, or fewer
        than two different numbers are known of the training subjects.
    """
    subjects = list(map(str, train_subjects))
    if params.type != "regression":
        return WindowTargets(*window_labels(windows, participants, params, subjects))
    name = str(params.column)
    if params.kind == "trial":
        values = _of_trials(windows, name).to_numpy(dtype=np.float64)
        training = pd.Series(values[windows["subject"].isin(subjects).to_numpy()]).dropna()
    else:
        numbers = _numbers(participants, name)
        present = numbers.index.isin(subjects) & numbers.index.isin(windows["subject"].unique())
        training = numbers[present].dropna()
        values = windows["subject"].map(numbers).to_numpy(dtype=np.float64)
    if training.nunique() < 2:
        found = first_few(training.unique()) or "none"
        raise UserError(
            f"labels: two different values of {name} or more are needed among the training "
            f"subjects, found {found}"
        )
    return WindowTargets(values, (name,), True, float(training.mean()), float(training.std(ddof=0)))


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
    at `threshold`, by default, when it has more than five different values (more than two with
    type `binary`), at the median of the training subjects, or of their trials for a label of
    trials; the names say where (`age > 10.2`).

    Parameters
    ----------
    windows
        Windows table with `subject` and `task`; for labels of trials as `cut_trial_windows`
        gives it.
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
        column that is not numeric, the training subjects have only one class, or other classes
        than the type says.
    """
    if params.type == "regression":
        raise UserError("labels: classes are needed here, found type: regression")
    training = windows["subject"].isin({str(subject) for subject in train_subjects}).to_numpy()
    what, values, numeric = _to_label(windows, participants, params)
    if params.positive:
        labels = _one_against_rest(values, training, params.positive, what)
    elif numeric:
        # each subject counts once, however many windows it has; a trial is a window
        own = pd.Series(np.arange(len(windows)), index=windows.index)
        counted = windows["subject"] if params.kind == "participant" else own
        labels = _cut(values, counted, training, params.threshold, what)
    else:
        labels = _categories(values, training)
    present = set(labels.values[training].tolist()) - {UNKNOWN}
    if len(present) < 2:
        found = first_few(labels.names[index] for index in sorted(present)) or "none"
        raise UserError(
            f"labels: two classes of {what} or more are needed among the training subjects, "
            f"found {found}"
        )
    if params.type == "binary" and len(labels.names) > 2:
        raise UserError(
            f"labels: type: binary needs two classes, but {what} of the training subjects has "
            f"{len(labels.names)}: {first_few(labels.names)}; name those of class 1 in positive"
        )
    return labels


def _to_label(
    windows: pd.DataFrame, participants: pd.DataFrame, params: LabelParams
) -> tuple[str, pd.Series, bool]:
    """Return what is told apart, its value for each window (N,), and whether numbers are cut."""
    what = str(params.column)
    if params.kind == "task":
        return "task", windows["task"].astype(object), False
    if params.kind == "trial":
        values = _of_trials(windows, what)
        return what, values, _is_numeric(values, what, params)
    column = _column(participants, what)
    values = windows["subject"].map(column).astype(object)
    return what, values, _is_numeric(column, what, params)


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
    how many groups each class or number has stays the same.

    Parameters
    ----------
    values
        Integer classes (windows,), −1 is unknown; or numbers, NaN is unknown.
    groups
        Recording or subject of each window (windows,).
    seed
        Another seed gives another permutation.

    Returns
    -------
    numpy.ndarray
        Permuted values (windows,).

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
    mixed = np.unique(group[~_same(of_group[group], values)])
    if len(mixed):
        raise ValueError(f"groups with more than one label: {first_few(names[mixed])}")
    known = np.flatnonzero(is_known(of_group))
    shuffled = of_group.copy()
    shuffled[known] = of_group[np.random.default_rng(seed).permutation(known)]
    return shuffled[group]


def _same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first == second) | ~(is_known(first) | is_known(second))


def _column(participants: pd.DataFrame, name: str) -> pd.Series:
    columns = [column for column in participants.columns if column != "subject"]
    if name not in columns:
        found = ", ".join(map(str, columns)) or "no columns"
        raise UserError(f"labels: column {name} is not in participants.tsv, which has {found}")
    return participants.set_index("subject")[name]


def _numbers(participants: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of numbers by subject, NaN where unknown."""
    column = _column(participants, name)
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = column[column.notna() & ~np.isfinite(numbers)]
    if len(wrong):
        raise UserError(
            f"labels: type: regression needs numbers, but {len(wrong)} of {column.notna().sum()} "
            f"values of {name} in participants.tsv are none, such as {wrong.iloc[0]} of subject "
            f"{wrong.index[0]}"
        )
    return numbers


def _of_trials(windows: pd.DataFrame, name: str) -> pd.Series:
    """Return what the windows' trials have in a column (N,)."""
    if name not in windows:
        raise UserError(
            "labels: kind: trial is for fine-tuning, whose windows are those of the trials; "
            "the windows here belong to none, take kind: task or participant"
        )
    return windows[name].astype(object)


def _is_numeric(column: pd.Series, name: str, params: LabelParams) -> bool:
    """Tell whether a column is cut; one of a few numbers, such as 0 and 1, is a category."""
    known = column.dropna()
    numbers = bool(len(known)) and bool(pd.to_numeric(known, errors="coerce").notna().all())
    if params.threshold is not None and not numbers:
        found = first_few(dict.fromkeys(known), 3) or "none"
        raise UserError(
            f"labels: threshold is set, but the values of {name} are not numbers; found {found}"
        )
    many = numbers and known.nunique() > MOST_CATEGORIES
    if params.type == "multiclass" and many:
        raise UserError(
            f"labels: type: multiclass, but {name} has {known.nunique()} different numbers, more "
            f"than {MOST_CATEGORIES}; use binary, which cuts them in two, or regression"
        )
    two_wanted = params.type == "binary" and numbers and known.nunique() > 2
    return params.threshold is not None or many or two_wanted


def _categories(values: pd.Series, training: np.ndarray) -> WindowLabels:
    names = sorted({as_text(value) for value in values[training].dropna()})
    number = {name: index for index, name in enumerate(names)}
    classes = [
        UNKNOWN if pd.isna(value) else number.get(as_text(value), UNKNOWN) for value in values
    ]
    return WindowLabels(np.array(classes, dtype=np.int64), tuple(names))


def _one_against_rest(
    values: pd.Series, training: np.ndarray, positive: Collection[str], what: str
) -> WindowLabels:
    texts = values.map(as_text, na_action="ignore")
    found = sorted(set(texts[training].dropna()))
    absent = [value for value in positive if value not in found]
    if absent:
        raise UserError(
            f"labels: positive names {', '.join(absent)}, but {what} of the training subjects is "
            f"{first_few(found, 10) or 'never known'}"
        )
    classes = np.where(texts.isin(list(positive)), 1, 0)
    classes[texts.isna().to_numpy()] = UNKNOWN
    rest = [name for name in found if name not in positive]
    other = rest[0] if len(rest) == 1 else f"not {' or '.join(positive)}"
    return WindowLabels(classes.astype(np.int64), (other, " or ".join(positive)))


def _cut(
    values: pd.Series,
    counted: pd.Series,
    training: np.ndarray,
    threshold: float | None,
    what: str,
) -> WindowLabels:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    if threshold is None:
        once = pd.Series(numbers[training]).groupby(counted[training].to_numpy()).first()
        threshold = float(once.median())
        if threshold >= once.max():
            lower = once[once < threshold]
            threshold = float(lower.max()) if len(lower) else threshold
    classes = np.where(numbers > threshold, 1, 0)
    classes[np.isnan(numbers)] = UNKNOWN
    return WindowLabels(
        classes.astype(np.int64), (f"{what} ≤ {threshold:.4g}", f"{what} > {threshold:.4g}")
    )
