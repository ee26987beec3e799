"""Select recordings by names and sizes; an empty selection raises an error of one line."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from hbn_foundation.bids import recordings_in
from hbn_foundation.errors import UserError, as_text, first_few
from hbn_foundation.progress import say, track
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


def check_root(root: str, names: Mapping[str, int | None]) -> list[str]:
    """Subjects in a BIDS root, from the names in it and their sizes, None for folders."""
    if not names:
        raise UserError(f"{root}: empty folder, expected the root of a BIDS data set")
    found = [n[4:] for n, size in names.items() if size is None and n.startswith("sub-")]
    described = "dataset_description.json" in names
    if not found:
        why = "no sub-* folder in it" if described else "no dataset_description.json, no sub-*"
        raise UserError(f"{root}: not a BIDS data set ({why}); expected folders sub-<label>")
    if not described:
        say(f"{root}: dataset_description.json is missing; read as BIDS all the same")
    return sorted(found)


def select(
    root: str,
    listed: Callable[[str], Mapping[str, int | None]],
    selection: SelectionParams,
    participants: Path,
) -> list[Row]:
    """Rows of the selected recordings of a BIDS root, local or remote.

    `listed` gives the names below the root of the files in a folder ("" or ``sub-<label>``) with
    their sizes, None for folders.

    Raises
    ------
    UserError
        It is no BIDS root, or no recording is left; the message names the filter and the values
        there are.
    """
    kept = select_subjects(root, check_root(root, listed("")), selection, participants)
    names = ((s, {recording_file(n) for n in listed(f"sub-{s}")}) for s in track(kept, "listing"))
    rows = ((subject, recordings_in(sorted(files))) for subject, files in names)
    return select_recordings(root, rows, selection)


def recording_file(name: str) -> str:
    """Name of the file or, for one inside a recording that is a folder (.mff), of the folder."""
    head, found, _ = name.partition(".mff/")
    return f"{head}.mff" if found else name


def select_subjects(
    root: str, subjects: Sequence[str], selection: SelectionParams, participants: Path
) -> list[str]:
    """Keep the subjects that pass the filters on subjects, in alphabetical order.

    UserError where none is left, or participants.tsv or a column of it is missing.
    """
    kept = sorted(subjects)
    if selection.subjects is not None:
        kept = list(filter(label_filter(selection.subjects), kept))
        _check(kept, root, "subjects", selection.subjects, subjects)
        missing = list(itertools.filterfalse(label_filter(subjects), selection.subjects))
        if missing:
            say(f"{root}: no such subjects, left out: {', '.join(map(str, missing))}")
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

    `subjects` are pairs of a subject and its recordings; UserError where none is left.
    """
    wanted = {"task": selection.tasks, "session": selection.sessions, "run": selection.runs}
    meets = {entity: label_filter(labels) for entity, labels in wanted.items()}
    every: list[Row] = []
    found: dict[str, list[Row]] = {}
    without: list[str] = []
    for subject, rows in subjects:
        every += rows
        without += [] if rows else [subject]
        if kept := [row for row in rows if all(meets[name](row[name]) for name in wanted)]:
            found[subject] = kept
        if len(found) == selection.max_subjects:
            break
    if not every:
        raise UserError(f"{root}: no EEG recording under the sub-* folders, {EXPECTED}")
    if without:
        say(f"{root}: no recording of {first_few(without)} ({EXPECTED})")
    for entity, labels in wanted.items() if not found else ():
        present = sorted({str(row[entity]) for row in every if row[entity] is not None})
        every = [row for row in every if meets[entity](row[entity])]
        _check(every, root, f"{entity}s", labels or (), present)
    return [row for rows in found.values() for row in rows]


def _check(
    kept: Sequence, root: str, name: str, wanted: Iterable[object], present: Sequence[str]
) -> None:
    if not kept:
        raise UserError(
            f"{root}: no recording is left after selection.{name} = "
            f"[{', '.join(map(str, wanted))}]; there are: {first_few(present, 12) or 'none'}"
        )
