"""Which recordings are asked for, and one clear line when there are none."""

from __future__ import annotations

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
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def comparable(label: object) -> str | Decimal:
    """Give what a label is compared by.

    ``2`` and ``"02"`` are the same, and so are ``1`` and ``"1.0"``; ``1e3`` is a name.
    """
    text = str(label)
    return Decimal(text) if NUMBER.fullmatch(text) else text


def asked_for(wanted: Iterable[object] | None, prefix: str = "") -> Callable[[object], bool]:
    """Make a function that tells whether a label is among those wanted; None wants all."""
    if wanted is None:
        return lambda label: True
    labels = {comparable(str(w).removeprefix(prefix)) for w in wanted}
    return lambda label: comparable(label) in labels


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
    root: str, subjects: Sequence[str], selection: SelectionParams, participants: Path | None
) -> list[str]:
    """Keep the subjects that meet all that is asked of subjects, in alphabetical order.

    Raises
    ------
    UserError
        None is left, or participants.tsv or a column of it is missing.
    """
    kept = sorted(subjects)
    if selection.subjects is not None:
        there = asked_for(subjects)
        missing = [w for w in selection.subjects if not there(str(w).removeprefix("sub-"))]
        kept = list(filter(asked_for(selection.subjects, "sub-"), kept))
        _check(kept, root, "subjects", selection.subjects, subjects)
        if missing:
            say(f"{root}: no such subjects, left out: {', '.join(map(str, missing))}")
    if selection.exclude_subjects:
        excluded = asked_for(selection.exclude_subjects, "sub-")
        kept = [s for s in kept if not excluded(s)]
        _check(kept, root, "exclude_subjects", selection.exclude_subjects, subjects)
    if selection.participants:
        kept = _by_participants(root, kept, selection.participants, participants)
    return kept


def _by_participants(
    root: str, subjects: list[str], wanted: dict, participants: Path | None
) -> list[str]:
    if participants is None or not os.path.lexists(participants):
        raise UserError(
            f"{root}: participants.tsv is missing, but selection.participants asks for "
            f"{', '.join(wanted)}"
        )
    from hbn_foundation.labels.participants import read_participants

    table = read_participants(participants.parent, subjects).set_index("subject")
    columns = list(map(str, table.columns))
    for column, values in wanted.items():
        if column not in columns:
            raise UserError(
                f"{participants}: no column {column!r} as selection.participants asks; "
                f"there are {', '.join(columns) or 'none'}"
            )
        texts = table[column].map(as_text, na_action="ignore").astype(object).fillna("n/a")
        has = texts.to_dict()
        present = sorted({has[s] for s in subjects if s in has})
        meets = asked_for(values)
        subjects = [s for s in subjects if s in has and meets(has[s])]
        _check(subjects, root, f"participants.{column}", values, present)
    return subjects


def select_recordings(
    root: str, subjects: Iterable[tuple[str, list[Row]]], selection: SelectionParams
) -> list[Row]:
    """Keep the recordings that meet all that is asked, until `max_subjects` have one.

    Parameters
    ----------
    root
        Named in messages.
    subjects
        Pairs of a subject and its recordings (``session``, ``task``, ``run`` in each).
    selection
        What is asked for.

    Raises
    ------
    UserError
        No recording is left; the message names the filter and the values there are.
    """
    filters: list[tuple[str, str, list | None, Callable[[object], bool]]] = [
        ("tasks", "task", selection.tasks, asked_for(selection.tasks, "task-")),
        ("sessions", "session", selection.sessions, asked_for(selection.sessions, "ses-")),
        ("runs", "run", selection.runs, asked_for(selection.runs, "run-")),
    ]
    seen: list[set[str]] = [set() for _ in filters]
    left = [0 for _ in filters]
    found: list[Row] = []
    n_files = n_subjects = 0
    without: list[str] = []
    for subject, rows in subjects:
        n_files += len(rows)
        without += [] if rows else [subject]
        kept = list(rows)
        for place, (_, entity, _, meets) in enumerate(filters):
            seen[place].update(str(row[entity]) for row in kept if row[entity] is not None)
            kept = [row for row in kept if meets(row[entity])]
            left[place] += len(kept)
        found += kept
        n_subjects += bool(kept)
        if selection.max_subjects is not None and n_subjects >= selection.max_subjects:
            break
    if not n_files:
        raise UserError(f"{root}: no EEG recording under the sub-* folders, {EXPECTED}")
    if without:
        say(f"{root}: no recording of {first_few(without)} ({EXPECTED})")
    for (name, _, wanted, _), values, n_left in zip(filters, seen, left, strict=True):
        if wanted is not None and not n_left:
            _check([], root, name, wanted, sorted(values))
    return found


def _check(
    kept: Sequence, root: str, name: str, wanted: Iterable[object], present: Sequence[str]
) -> None:
    if kept:
        return
    raise UserError(
        f"{root}: no recording is left after selection.{name} = "
        f"[{', '.join(map(str, wanted))}]; there are: {first_few(present, 12) or 'none'}"
    )
