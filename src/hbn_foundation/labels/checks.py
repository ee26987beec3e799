"""Checks of splits and targets before anything is trained or evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.progress import say


def check_targets(
    targets: WindowTargets,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    needed: Collection[str] = ("train", "validation"),
) -> None:
    """Make sure that the splits have what training and choosing need; tell what scoring lacks.

    Parameters
    ----------
    targets
        Values of the windows.
    windows
        Windows table with `subject`, in the same order.
    splits
        `subject` and `split`.
    needed
        Splits in which every class has to occur, and numbers have to differ.

    Raises
    ------
    UserError
        One line: a split without a known value, a class without a subject in a split, or one
        number only.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"]).to_numpy(dtype=object)
    tested = targets.values[(split == "test") & targets.known]
    if len(tested) and not targets.is_regression and "test" not in needed:
        absent = [name for k, name in enumerate(targets.names) if k not in tested]
        if absent:
            say(
                f"labels: no test subject has the class {', '.join(absent)}: scores that compare "
                "classes leave it out, or are missing"
            )
    for name in needed:
        inside = (split == name) & targets.known
        values = targets.values[inside]
        if not len(values):
            raise UserError(f"labels: no window of the {name} subjects has a known label")
        if targets.is_regression:
            if len(np.unique(values)) < 2:
                raise UserError(
                    f"labels: two different values of {targets.names[0]} or more are needed among "
                    f"the {name} subjects, found {values[0]:g} only; divide the subjects otherwise"
                )
            continue
        absent = [targets.names[k] for k in range(len(targets.names)) if k not in values]
        if absent:
            found = first_few(targets.names[k] for k in np.unique(values))
            raise UserError(
                f"labels: no {name} subject has the class {', '.join(absent)}, only {found}; "
                "divide the subjects otherwise (splits.seed, splits.method) or join classes "
                "by positive"
            )


def check_disjoint(splits: pd.DataFrame) -> None:
    """Make sure that no subject is in two splits.

    Raises
    ------
    UserError
        Naming the subjects that are.
    """
    counts = splits.groupby("subject")["split"].nunique()
    both = sorted(counts.index[counts > 1])
    if both:
        raise UserError(
            f"splits: expected each subject in one split, found {first_few(both)} in two"
        )


def check_unseen(train_subjects: Iterable[str], evaluation_subjects: Iterable[str]) -> None:
    """Make sure that nobody a model is evaluated on was among those it was trained on.

    Raises
    ------
    UserError
        Naming the subjects that were.
    """
    seen = sorted(set(map(str, train_subjects)) & set(map(str, evaluation_subjects)))
    if seen:
        raise UserError(
            f"the model was trained on {len(seen)} of the subjects it is to be evaluated on "
            f"({first_few(seen)}); use the splits it was trained with, or train it anew"
        )


def check_never_seen(
    metadata: Mapping[str, Any], tested: Iterable[str], validating: Iterable[str] = ()
) -> None:
    """Make sure that a checkpoint was neither trained nor chosen on test subjects.

    Parameters
    ----------
    metadata
        Of the checkpoint: `training_subjects` and `validation_subjects`.
    tested
        Test subjects.
    validating
        Validation subjects, on which it must not have been trained either.

    Raises
    ------
    UserError
        Naming the subjects.
    """
    tested = set(map(str, tested))
    check_unseen(metadata.get("training_subjects") or (), {*tested, *map(str, validating)})
    chosen = sorted(tested & set(map(str, metadata.get("validation_subjects") or ())))
    if chosen:
        raise UserError(
            f"the model's best epoch was chosen on {len(chosen)} of the test subjects "
            f"({first_few(chosen)}); use the splits it was trained with, or train it anew"
        )


def check_reported(
    splits: pd.DataFrame,
    participants: pd.DataFrame | None = None,
    chosen_on: Iterable[str] = (),
    release_column: str = "release_number",
) -> None:
    """Make sure that whoever is reported has chosen nothing.

    With the official split, release R5 validates and nobody tests, for the test release is hidden.
    The best epoch is chosen on the validation subjects, so their score is no result.

    Parameters
    ----------
    splits
        `subject` and `split`.
    participants
        Names the releases, for the message.
    chosen_on
        Validation subjects of the model that training starts from: its best epoch is their choice.
    release_column
        Of the participants.

    Raises
    ------
    UserError
        When there are no test subjects, or some of them have chosen an epoch already.
    """
    subjects = {name: set(part.astype(str)) for name, part in splits.groupby("split")["subject"]}
    tested = subjects.get("test", set())
    if not tested:
        validating = subjects.get("validation", set())
        named = ""
        if participants is not None and release_column in participants:
            mine = participants["subject"].astype(str).isin(validating)
            releases = sorted(set(participants.loc[mine, release_column].dropna().astype(str)))
            named = f" (release {first_few(releases)})" if releases else ""
        raise UserError(
            f"splits: no test subjects, so the {len(validating)} validation subjects{named}, on "
            "whom the best epoch is chosen, would be reported; report another split, as by "
            "ingestion.splits.validation_releases=[R4] and test_releases=[R5]"
        )
    chosen = sorted(tested & set(map(str, chosen_on)))
    if chosen:
        raise UserError(
            f"the best epoch of the model to start from was chosen on {len(chosen)} of the test "
            f"subjects ({first_few(chosen)}); use the splits it was trained with, or train it anew"
        )
