"""Whom a checkpoint has seen, also where it was made of other data sets.

A subject is a name in a data set: the `01` of one is not the `01` of another. Data sets are told
apart by the `Name` in their dataset_description.json. What is unknown counts as the same, and so do
equal names that nobody would give twice, such as those of HBN in several versions of its releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hbn_foundation.bids import of_dataset
from hbn_foundation.errors import UserError, count_of, first_few

TRAINED, CHOSEN = "training_subjects", "validation_subjects"
COUNTED = re.compile(r"[A-Za-z]*\d{1,5}")
"""Names that count (`01`, `S003`): in two data sets they are of two people."""

Datasets = Mapping[str, str | None]


def seen_subjects(
    metadata: Mapping[str, Any], role: str, subjects: Iterable[object], datasets: Datasets
) -> dict[str, bool]:
    """Find the subjects that a checkpoint, or one that it was made from, has seen.

    Parameters
    ----------
    metadata
        Of the checkpoint.
    role
        `TRAINED` or `CHOSEN`: those it was trained on, or those on whom an epoch was chosen.
    subjects, datasets
        Names of subjects, and what their data sets call themselves (`dataset_names`); empty where
        that is unknown.

    Returns
    -------
    dict
        By the name of each subject found, whether both data sets are known.
    """
    seen: dict[str, set[str | None]] = {}
    for record in (metadata, *metadata.get("ancestors", ())):
        for subject in record.get(role) or ():
            name, dataset = _person(subject, record.get("datasets") or {})
            seen.setdefault(name, set()).add(dataset)
    found = {}
    for subject in sorted(set(map(str, subjects))):
        name, here = _person(subject, datasets)
        others = [one for one in seen.get(name, ()) if _may_be_one(name, here, one)]
        if others:
            found[subject] = here is not None and None not in others
    return found


def _person(subject: object, datasets: Datasets) -> tuple[str, str | None]:
    dataset, name = of_dataset(str(subject), datasets)
    return name, datasets.get(dataset)


def _may_be_one(name: str, here: str | None, there: str | None) -> bool:
    return here is None or there is None or here == there or not COUNTED.fullmatch(name)


def check_people(subjects: Iterable[str], datasets: Datasets) -> None:
    """Make sure that nobody is a subject of two data sets, who might be both trained and tested on.

    Equal names in two data sets that call themselves the same, or equal names that do not count,
    are a UserError.
    """
    found: dict[str, dict[str, str | None]] = {}
    twice = []
    for subject in dict.fromkeys(subjects):
        name, here = _person(subject, datasets)
        for other, there in found.setdefault(name, {}).items():
            if (here is not None and here == there) or not COUNTED.fullmatch(name):
                twice.append(f"{other} as {subject}")
        found[name][subject] = here
    if twice:
        people = f"{count_of(len(twice), 'subject')} in two data sets ({first_few(twice)})"
        raise UserError(
            f"ingestion.source.roots: {people}, and might be both trained and tested on; leave out "
            "one of the data sets, or name them in ingestion.selection.exclude_subjects"
        )


def subjects_before(
    parent: Mapping[str, Any], datasets: Datasets
) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """Divide what a checkpoint has seen into subjects of the same data sets and of others.

    Parameters
    ----------
    parent
        Metadata of the checkpoint that a training begins from.
    datasets
        Of the training.

    Returns
    -------
    own : mapping
        With the subjects whose names mean the same here, by `TRAINED` and `CHOSEN`.
    ancestors : list of dict
        Of the checkpoints of other data sets: run, data sets and subjects.
    """
    ancestors = list(parent.get("ancestors", ()))
    if (parent.get("datasets") or {}) == dict(datasets):
        return parent, ancestors
    kept = ("run_id", "kind", "datasets", TRAINED, CHOSEN)
    return {}, [*ancestors, {name: parent[name] for name in kept if name in parent}]
