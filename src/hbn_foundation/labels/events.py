"""Read the events beside a recording, as text: who needs times or numbers converts them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hbn_foundation.bids import sidecar
from hbn_foundation.sidecars import read_table

MISSING = ("", "n/a")


def read_events(
    root: str | Path, path: str, columns: Sequence[str] = ()
) -> dict[str, list[str | None]] | None:
    """Read a recording's events.tsv.

    A release has tens of thousands of these small files, and making a pandas table of each takes
    ten times as long as reading it.

    Parameters
    ----------
    root
        The BIDS root.
    path
        The recording's file, relative to `root`.
    columns
        Columns asked for, which the file may write in another case.

    Returns
    -------
    dict or None
        The columns by name, one stripped text per event in the order of the file, None where the
        file has `n/a` or nothing. None instead when the recording has no events.tsv.

    Raises
    ------
    UnreadableSidecar
        When the file is there and cannot be read; a ValueError that says what is wrong with it.
    """
    file = sidecar(root, path, "events.tsv")
    if file is None:
        return None
    table = read_table(file, columns)
    return {
        name: [None if row[name] in MISSING else row[name] for row in table.rows]
        for name in table.columns
    }
