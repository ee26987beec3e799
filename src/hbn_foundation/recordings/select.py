"""Select subjects and recordings; an empty selection raises an error of one line."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from hbn_foundation.errors import UserError, as_text, first_few
from hbn_foundation.progress import say
from hbn_foundation.recordings.params import SelectionParams

Row = dict[str, str | None]

EXPECTED = "expected sub-*/[ses-*/]eeg/*_eeg with .edf, .bdf, .set, .vhdr, .fif, .mff or .raw"
PREFIX = re.compile(r"^(sub|ses|task|run)-")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def label_filter(wanted: Iterable[object] | None) -> Callable[[object], bool]:
    """Make a function that returns whether a label is among those wanted; None accepts all.

    ``2`` and ``"sub-02"`` are the same, and so are ``1`` and ``"1.0"``; ``1e3`` is a name.
    """

    def comparable(label: object) -> str | Decimal:
        text = PREFIX.sub("", str(label))
        return Decimal(text) if NUMBER.fullmatch(text) else text

    labels = None if wanted is None else {comparable(label) for label in wanted}
    return lambda label: labels is None or comparable(label) in labels


def check_root(root: str, names: Mapping[str, bool]) -> list[str]:
    """Subjects in a BIDS root, from the names in it and whether each is a folder."""
    if not names:
        raise UserError(f"{root}: empty folder, expected the root of a BIDS data set")
    found = [n.removeprefix("sub-") for n, folder in names.items() if folder and n[:4] == "sub-"]
    described = "dataset_description.json" in names
    if not found:
        why = "no sub-* folder in it" if described else "no dataset_description.json, no sub-*"
        raise UserError(f"{root}: not a BIDS data set ({why}); expected folders sub-<label>")
    if not described:
        say(f"{root}: dataset_description.json is missing; read as BIDS all the same")
    return sorted(found)


def select_subjects(
    root: str, subjects: Sequence[str], selection: SelectionParams, participants: Path
) -> list[str]:
    """Keep the subjects that pass the filters on subjects, in alphabetical order.

    Raises
    ------
    UserError
        None is left, or participants.tsv or a column of it is missing.
    """
    kept = sorted(subjects)
    if selection.subjects is not None:
        kept = list(filter(label_filter(selection.subjects), kept))
        _check(kept, root, "subjects", selection.subjects, subjects)
        there = label_filter(subjects)
        missing = [str(wanted) for wanted in selection.subjects if not there(wanted)]
        if missing:
            say(f"{root}: no such subjects, left out: {', '.join(missing)}")
    if selection.exclude_subjects:
        kept = list(itertools.filterfalse(label_filter(selection.exclude_subjects), kept))
        _check(kept, root, "exclude_subjects", selection.exclude_subjects, subjects)
    if not selection.participants:
        return kept
    if not os.path.lexists(participants):
        raise UserError(
            f"{root}: participants.tsv is missing, but selection.participants asks for "
            f"{', '.join(selection.participants)}"
        )
    from hbn_foundation.labels.participants import read_participants

    table = read_participants(participants.parent, kept).set_index("subject")
    for column, values in selection.participants.items():
        if column not in table:
            raise UserError(
                f"{participants}: no column {column!r} as selection.participants asks; "
                f"there are {', '.join(map(str, table.columns)) or 'none'}"
            )
        texts = table[column].map(as_text, na_action="ignore").astype(object).fillna("n/a")
        of = {subject: texts[subject] for subject in kept if subject in texts.index}
        meets = label_filter(values)
        kept = [subject for subject, value in of.items() if meets(value)]
        _check(kept, root, f"participants.{column}", values, sorted(set(of.values())))
    return kept


def select_recordings(
    root: str, subjects: Iterable[tuple[str, list[Row]]], selection: SelectionParams
) -> list[Row]:
    """Keep the recordings that pass all filters, until `max_subjects` have one.

    Parameters
    ----------
    root
        Named in messages.
    subjects
        Pairs of a subject and its recordings (``session``, ``task``, ``run`` in each).
    selection
        The filters.

    Raises
    ------
    UserError
        No recording is left; the message names the filter and the values there are.
    """
    wanted = {"task": selection.tasks, "session": selection.sessions, "run": selection.runs}
    meets = {entity: label_filter(labels) for entity, labels in wanted.items()}
    # for each filter: labels of the recordings that reach it, and number that pass it
    seen: dict[str, set[str]] = {entity: set() for entity in wanted}
    left = dict.fromkeys(wanted, 0)
    found: list[Row] = []
    n_files = n_subjects = 0
    without: list[str] = []
    for subject, rows in subjects:
        n_files += len(rows)
        without += [] if rows else [subject]
        kept = rows
        for entity in wanted:
            seen[entity].update(str(row[entity]) for row in kept if row[entity] is not None)
            kept = [row for row in kept if meets[entity](row[entity])]
            left[entity] += len(kept)
        found += kept
        n_subjects += bool(kept)
        if n_subjects == selection.max_subjects:
            break
    if not n_files:
        raise UserError(f"{root}: no EEG recording under the sub-* folders, {EXPECTED}")
    if without:
        say(f"{root}: no recording of {first_few(without)} ({EXPECTED})")
    for entity, labels in wanted.items():
        if labels is not None:
            _check(range(left[entity]), root, f"{entity}s", labels, sorted(seen[entity]))
    return found


def _check(
    kept: Sequence, root: str, name: str, wanted: Iterable[object], present: Sequence[str]
) -> None:
    if not kept:
        raise UserError(
            f"{root}: no recording is left after selection.{name} = "
            f"[{', '.join(map(str, wanted))}]; there are: {first_few(present, 12) or 'none'}"
        )
