"""Checks of splits and targets before anything is trained or evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.labels.people import CHOSEN, TRAINED, Datasets, seen_subjects
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.progress import say

REMEDY = "use the splits it was trained with, or train it anew"


def check_targets(
    targets: WindowTargets,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    needed: Collection[str] = ("train", "validation"),
) -> None:
    """Make sure that every split has the classes or numbers that training and scoring need.

    A `needed` split without a known value, without one of the classes or with a single number is a
    UserError; a class that the test split lacks is logged otherwise. Targets and windows are in the
    same order.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"]).to_numpy(dtype=object)
    for name in dict.fromkeys((*needed, "test")):
        values = np.unique(targets.values[(split == name) & targets.known])
        absent = ""
        if len(values) and not targets.is_regression:
            absent = ", ".join(n for k, n in enumerate(targets.names) if k not in values)
        if name not in needed:
            if absent:
                say(f"labels: no test subject has the class {absent}: scores that compare classes "
                    "leave it out, or are missing")  # fmt: skip
            continue
        if not len(values):
            raise UserError(f"labels: no window of the {name} subjects has a known label")
        if targets.is_regression and len(values) < 2:
            raise UserError(
                f"labels: two different values of {targets.names[0]} or more are needed among "
                f"the {name} subjects, found {values[0]:g} only; divide the subjects otherwise"
            )
        if absent:
            found = first_few(targets.names[k] for k in values)
            raise UserError(
                f"labels: no {name} subject has the class {absent}, only {found}; divide the "
                "subjects otherwise (splits.seed, splits.method) or join classes by positive"
            )


def check_disjoint(splits: pd.DataFrame) -> None:
    """Make sure that no subject is in two splits; a UserError names those that are."""
    counts = splits.groupby("subject")["split"].nunique()
    if both := sorted(counts.index[counts > 1]):
        raise UserError(
            f"splits: expected each subject in one split, found {first_few(both)} in two"
        )


def check_never_seen(
    metadata: Mapping[str, Any],
    tested: Iterable[str],
    validating: Iterable[str] = (),
    datasets: Datasets | None = None,
) -> None:
    """Make sure that a checkpoint was neither trained nor chosen on test subjects.

    Its `metadata` name its training and validation subjects. On the subjects in `validating` it
    must not have been trained either. `datasets` are those of the subjects, as in `seen_subjects`.
    A UserError names the subjects.
    """
    tested = set(map(str, tested))
    evaluated = {*tested, *map(str, validating)}
    if seen := seen_subjects(metadata, TRAINED, evaluated, datasets or {}):
        raise UserError(
            f"the model was trained on {len(seen)} of the subjects it is to be evaluated on "
            f"({first_few(seen)}); {REMEDY}{_doubt(seen)}"
        )
    chosen = seen_subjects(metadata, CHOSEN, tested, datasets or {})
    _check_not_chosen_on(chosen, tested, "the model's best epoch", _doubt(chosen))


def _doubt(seen: Mapping[str, bool]) -> str:
    """Say so where people are taken for the same by their names alone."""
    if all(seen.values()):
        return ""
    return (
        "; equal names count as the same people, as model or data do not tell which data set they "
        "are of (Name of dataset_description.json)"
    )


def check_reported(
    splits: pd.DataFrame,
    participants: pd.DataFrame | None = None,
    chosen_on: Iterable[str] = (),
    release_column: str = "release_number",
) -> None:
    """Make sure that there are test subjects, and that no epoch was chosen on them.

    With the official split there are no test subjects, and the best epoch is chosen on R5, the
    validation subjects, so that their score is not an unbiased result.

    `chosen_on` are the subjects that chose the epoch of the checkpoint that training starts from;
    `participants` name the releases in the message. No test subjects, or an epoch that was chosen
    on some of them, is a UserError.
    """
    subjects = {name: set(part.astype(str)) for name, part in splits.groupby("split")["subject"]}
    if "test" not in subjects:
        validating = subjects.get("validation", set())
        named = ""
        if participants is not None and release_column in participants:
            mine = participants["subject"].astype(str).isin(validating)
            releases = participants.loc[mine, release_column].dropna().astype(str).unique()
            named = f" (release {first_few(sorted(releases))})" if len(releases) else ""
        raise UserError(
            f"splits: no test subjects, so the {len(validating)} validation subjects{named}, on "
            "whom the best epoch is chosen, would be reported; report another split, as by "
            "ingestion.splits.validation_releases=[R4] and test_releases=[R5]"
        )
    _check_not_chosen_on(chosen_on, subjects["test"], "the best epoch of the model to start from")


def _check_not_chosen_on(
    validating: Iterable[str], tested: set[str], what: str, doubt: str = ""
) -> None:
    if chosen := sorted(tested & set(map(str, validating))):
        named = f"{len(chosen)} of the test subjects ({first_few(chosen)})"
        raise UserError(f"{what} was chosen on {named}; {REMEDY}{doubt}")
