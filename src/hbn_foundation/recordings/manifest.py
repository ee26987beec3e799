"""What a mirror holds, written when it is complete, so that it can be used without the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.recordings.select import asked_for


class Manifest:
    """Selections that were fetched whole, and the files and sizes there were then.

    It lies beside the mirror's folder: ``<folder>.mirror.json``.

    Parameters
    ----------
    folder
        The mirror.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder.with_name(f"{folder.name}.mirror.json")
        self.selections: list[SelectionParams] = []
        self.files: dict[str, int] = {}
        try:
            content = json.loads(self.path.read_bytes())
            self.selections = [SelectionParams(**given) for given in content["selections"]]
            self.files = {str(name): int(size) for name, size in content["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.selections, self.files = [], {}

    def add(self, selection: SelectionParams, files: Mapping[str, int]) -> None:
        """Write that a selection is there whole, with these files and sizes."""
        others = [known for known in self.selections if not _covers(selection, known)]
        self.selections = [*others, selection]
        self.files = {**self.files, **files}
        content = {"selections": [s.model_dump() for s in self.selections], "files": self.files}
        with renamed_when_done(self.path) as temporary:
            temporary.write_text(json.dumps(content, indent=1))

    def covers(self, selection: SelectionParams) -> bool:
        """Tell whether all of a selection was fetched."""
        return any(_covers(known, selection) for known in self.selections)

    def missing(self) -> list[str]:
        """Names of the files that are gone or have another size."""
        return [name for name, size in self.files.items() if _size(self.folder / name) != size]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _covers(known: SelectionParams, wanted: SelectionParams) -> bool:
    """Tell whether all that one selection keeps is kept by another, whatever the data set is."""
    if known.max_subjects is not None:  # which they are depends on all else that was asked
        same = wanted.model_copy(update={"max_subjects": known.max_subjects}) == known
        return same and (wanted.max_subjects or known.max_subjects + 1) <= known.max_subjects
    excluded = asked_for(wanted.exclude_subjects, "sub-")
    columns = wanted.participants or {}
    return (
        _among(known.subjects, wanted.subjects, "sub-")
        and all(excluded(str(s).removeprefix("sub-")) for s in known.exclude_subjects)
        and _among(known.tasks, wanted.tasks, "task-")
        and _among(known.sessions, wanted.sessions, "ses-")
        and _among(known.runs, wanted.runs, "run-")
        and all(_among(v, columns.get(c)) for c, v in (known.participants or {}).items())
    )


def _among(known: list | None, wanted: list | None, prefix: str = "") -> bool:
    if known is None:
        return True
    is_known = asked_for(known, prefix)
    return wanted is not None and all(is_known(str(w).removeprefix(prefix)) for w in wanted)
