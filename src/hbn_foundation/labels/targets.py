"""Give each window a class or a number: of its task, subject, trial or event."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, as_text, first_few
from hbn_foundation.labels.params import LabelParams

UNKNOWN = -1
MAX_CATEGORIES = 5


class WindowTargets(NamedTuple):
    """Classes or numbers of windows, to be learned.

    Attributes
    ----------
    values
        In the order of the windows: int64 classes, −1 is unknown, or float64 numbers, NaN is.
    names
        Name of each class; the name of the column alone for a number.
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
        return _is_known(self.values)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a model: one per class, or one."""
        return len(self.names)


def window_targets(
    windows: pd.DataFrame,
    participants: pd.DataFrame,
    params: LabelParams,
    train_subjects: Iterable[str],
) -> WindowTargets:
    """Give each window a class or a number; classes and thresholds are fitted on training subjects.

    Tasks and categories become classes in alphabetical order, as far as training subjects have
    them; values that no training subject has are unknown (−1). With `positive` there are two
    classes, those values (1) and all others (0). A numeric column is cut at `threshold`, by
    default, when it has more than five different values (more than two with type `binary`), at the
    median of the training subjects, trials or events. Numbers of a `regression` stay as they are.

    Raises
    ------
    UserError
        A column is missing, a value of `positive` does not occur or is no number where one is
        needed, or the training subjects have too few or too many classes.
    """
    training = windows["subject"].isin({str(subject) for subject in train_subjects}).to_numpy()
    name = "task" if params.kind == "task" else str(params.column)
    of_subject = params.kind == "participant"
    place = "event" if params.kind == "event" else name
    if not of_subject and place not in windows:
        raise UserError(
            f"labels: kind: {params.kind} is for windows of {params.kind}s; the windows here "
            "belong to none, take kind: task or participant"
        )
    column = _of_participants(participants, name) if of_subject else windows[place]
    # a subject, and an event, counts once, however many windows it has; a trial is a window
    counted = windows["subject"].to_numpy() if of_subject else np.arange(len(windows))
    if params.kind == "event":
        counted = windows.groupby(["recording", "event_number"]).ngroup().to_numpy()
    if params.type == "regression" and of_subject:
        return _numbers_of_subjects(name, column, windows["subject"], training)
    if params.type == "regression":
        numbers = _finite(name, column, "events.tsv", windows["subject"])
        known = numbers[training & ~pd.Series(counted).duplicated().to_numpy()]
        return _regression(name, numbers.to_numpy(), known)
    values = (windows["subject"].map(column) if of_subject else column).astype(object)
    if params.positive:
        targets = _one_against_rest(values, training, params.positive, name)
    elif params.kind != "task" and _is_cut(column, name, params):
        targets = _cut(values, counted, training, params.threshold, name)
    else:
        targets = _categories(values, training)
    present = sorted(set(targets.values[training].tolist()) - {UNKNOWN})
    if len(present) < 2:
        found = first_few(targets.names[index] for index in present) or "none"
        raise UserError(
            f"labels: two classes of {name} or more are needed among the training subjects, "
            f"found {found}"
        )
    if params.type == "binary" and len(targets.names) > 2:
        raise UserError(
            f"labels: type: binary needs two classes, but {name} of the training subjects has "
            f"{len(targets.names)}: {first_few(targets.names)}; name those of class 1 in positive"
        )
    return targets


def window_labels(
    windows: pd.DataFrame,
    participants: pd.DataFrame,
    params: LabelParams,
    train_subjects: Iterable[str],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the classes (N,) of windows and their names; type `regression` is a UserError."""
    if params.type == "regression":
        raise UserError("labels: classes are needed here, found type: regression")
    targets = window_targets(windows, participants, params, train_subjects)
    return targets.values, targets.names


def shuffle_labels(values: np.ndarray, groups: Collection[object], seed: int = 0) -> np.ndarray:
    """Permute labels across groups: a control with which every score must fall to chance.

    Windows of one group keep a common label; permuting single windows would also remove what the
    windows of a recording share, which is a weaker control. Group by recording if the label
    belongs to the recording (its task), by subject if it belongs to the subject (a participants
    column). Unknown labels (−1, NaN) stay in place, and the number of groups of each label stays
    the same. Values and groups are (windows,); a group with several labels is a ValueError.
    """
    values = np.asarray(values)
    names, first, group = np.unique(
        np.asarray(list(groups), dtype=str), return_index=True, return_inverse=True
    )
    of_group = values[first]
    expected = of_group[group]
    same = (expected == values) | ~(_is_known(expected) | _is_known(values))
    if not same.all():
        mixed = first_few(names[np.unique(group[~same])])
        raise ValueError(f"groups with more than one label: {mixed}")
    known = np.flatnonzero(_is_known(of_group))
    shuffled = of_group.copy()
    shuffled[known] = of_group[np.random.default_rng(seed).permutation(known)]
    return shuffled[group]


def _is_known(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values) if np.issubdtype(values.dtype, np.floating) else values != UNKNOWN


def _of_participants(participants: pd.DataFrame, name: str) -> pd.Series:
    columns = participants.set_index("subject")
    if name not in columns:
        found = ", ".join(map(str, columns)) or "no columns"
        raise UserError(f"labels: column {name} is not in participants.tsv, which has {found}")
    return columns[name]


def _numbers_of_subjects(
    name: str, column: pd.Series, subjects: pd.Series, training: np.ndarray
) -> WindowTargets:
    """Make targets of a column of participants.tsv for the subjects of the windows (N,)."""
    numbers = _finite(name, column, "participants.tsv", column.index)
    known = numbers[numbers.index.isin(subjects[training])]
    return _regression(name, subjects.map(numbers).to_numpy(dtype=np.float64), known)


def _finite(name: str, column: pd.Series, table: str, places: Collection[object]) -> pd.Series:
    """Read a column as numbers; one that is none is named with its place."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = np.flatnonzero(column.notna() & ~np.isfinite(numbers))
    if len(wrong):
        raise UserError(
            f"labels: type: regression needs numbers, but {len(wrong)} of {column.notna().sum()} "
            f"values of {name} in {table} are none, such as {column.iloc[wrong[0]]} of "
            f"subject {list(places)[wrong[0]]}"
        )
    return numbers


def _regression(name: str, values: np.ndarray, known: pd.Series) -> WindowTargets:
    """Make targets of numbers (N,), scaled by those that count of the training subjects."""
    known = known.dropna()
    if known.nunique() < 2:
        found = first_few(known.unique()) or "none"
        raise UserError(
            f"labels: two different values of {name} or more are needed among the training "
            f"subjects, found {found}"
        )
    return WindowTargets(values, (name,), True, float(known.mean()), float(known.std(ddof=0)))


def _is_cut(column: pd.Series, name: str, params: LabelParams) -> bool:
    """Tell whether a column is cut in two; few different numbers, such as 0 and 1, are classes."""
    known = column.dropna()
    numbers = bool(len(known)) and bool(pd.to_numeric(known, errors="coerce").notna().all())
    if params.threshold is not None and not numbers:
        found = first_few(dict.fromkeys(known), 3) or "none"
        raise UserError(
            f"labels: threshold is set, but the values of {name} are not numbers; found {found}"
        )
    many = numbers and known.nunique() > MAX_CATEGORIES
    if params.type == "multiclass" and many:
        raise UserError(
            f"labels: type: multiclass, but {name} has {known.nunique()} different numbers, more "
            f"than {MAX_CATEGORIES}; use binary, which cuts them in two, or regression"
        )
    two_wanted = params.type == "binary" and numbers and known.nunique() > 2
    return params.threshold is not None or many or two_wanted


def _categories(values: pd.Series, training: np.ndarray) -> WindowTargets:
    texts = values.map(as_text, na_action="ignore")
    names = sorted(set(texts[training].dropna()))
    classes = pd.Categorical(texts, categories=names).codes  # −1 for others
    return WindowTargets(classes.astype(np.int64), tuple(names))


def _one_against_rest(
    values: pd.Series, training: np.ndarray, positive: Collection[str], name: str
) -> WindowTargets:
    texts = values.map(as_text, na_action="ignore")
    found = sorted(set(texts[training].dropna()))
    absent = [value for value in positive if value not in found]
    if absent:
        raise UserError(
            f"labels: positive names {', '.join(absent)}, but {name} of the training subjects is "
            f"{first_few(found, 10) or 'never known'}"
        )
    classes = np.where(texts.isna(), UNKNOWN, texts.isin(list(positive)))
    rest = [value for value in found if value not in positive]
    other = rest[0] if len(rest) == 1 else f"not {' or '.join(positive)}"
    return WindowTargets(classes.astype(np.int64), (other, " or ".join(positive)))


def _cut(
    values: pd.Series,
    counted: np.ndarray,
    training: np.ndarray,
    threshold: float | None,
    name: str,
) -> WindowTargets:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    if threshold is None:
        once = pd.Series(numbers[training]).groupby(counted[training]).first()
        threshold = float(once.median())
        lower = once[once < threshold]
        if threshold >= once.max() and len(lower):
            threshold = float(lower.max())
    classes = np.where(np.isnan(numbers), UNKNOWN, numbers > threshold).astype(np.int64)
    return WindowTargets(classes, (f"{name} ≤ {threshold:.4g}", f"{name} > {threshold:.4g}"))
