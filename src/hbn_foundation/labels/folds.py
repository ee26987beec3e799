"""Divide subjects repeatedly into folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.strata import class_strata, divide, joined, strata


def repeated_splits(
    subjects: Sequence[str],
    n_folds: int = 5,
    n_repeats: int = 2,
    seed: int = 0,
    n_validation: int | None = None,
    *,
    participants: pd.DataFrame | None = None,
    label: LabelParams | None = None,
) -> pd.DataFrame:
    """Divide subjects repeatedly into folds for a cross-validation.

    In each repeat each fold is the test set once; of the other subjects some validate (every
    choice is made on them) and the rest train. Folds and validation subjects are spread over the
    classes of a label of subjects first, then over age, sex and site.

    Parameters
    ----------
    subjects
        Subjects, repeated ones count once; their order does not matter.
    n_folds, n_repeats
        How many folds, and how often.
    seed
        Another seed gives other folds.
    n_validation
        How many subjects validate; by default as many as are tested, but no more than a third of
        those that are not, unless there are more classes.
    participants
        What is known of the subjects, with the column `subject`; nothing by default.
    label
        What is learned.

    Returns
    -------
    pandas.DataFrame
        Columns `repeat`, `fold`, `subject`, `split`, one row per subject in each fold.

    Raises
    ------
    UserError
        When there are too few subjects.
    """
    names = sorted({str(subject) for subject in subjects})
    largest = -(-len(names) // max(n_folds, 1))
    people = pd.DataFrame({"subject": names}) if participants is None else participants
    classes = joined(class_strata(names, people, [] if label is None else [label]))
    stratum = strata(names, people)
    fewest = classes.nunique()
    _check_enough(len(names), n_folds, _n_validating(len(names), largest, fewest, n_validation))
    parts = []
    for repeat in range(n_repeats):
        equal = dict.fromkeys(range(n_folds), 1.0)
        fold_of = pd.Series(divide(classes, stratum, equal, f"{seed}:{repeat}"))[names]
        for fold in range(n_folds):
            others = fold_of.index[fold_of != fold]
            held = _n_validating(len(names), len(names) - len(others), fewest, n_validation)
            shares = {"train": len(others) - held, "validation": held}
            split = divide(classes[others], stratum[others], shares, f"{seed}:{repeat}:{fold}")
            columns = {"subject": names, "split": [split.get(name, "test") for name in names]}
            parts.append(pd.DataFrame({"repeat": repeat, "fold": fold, **columns}))
    return pd.concat(parts, ignore_index=True)


def _check_enough(n_subjects: int, n_folds: int, validating: int) -> None:
    if n_folds < 2:
        raise UserError(f"repeats: folds is {n_folds}; expected at least 2")
    left = n_subjects - -(-n_subjects // n_folds) - validating
    if n_subjects < n_folds or validating < 1 or left < 1:
        raise UserError(
            f"repeats: {n_subjects} subjects do not give {n_folds} folds with subjects left to "
            f"train and {validating} to validate"
        )


def _n_validating(n_subjects: int, n_tested: int, n_classes: int, asked: int | None) -> int:
    """Count the subjects that validate; by default two thirds of the others are to train."""
    others = n_subjects - n_tested
    usual = max(1, min(n_tested, others // 3), min(n_classes, others // 2))
    return usual if asked is None else asked
