"""Read the events beside a recording, as text: who needs times or numbers converts them."""

from __future__ import annotations

import csv
from pathlib import Path

from hbn_foundation.bids_names import sidecar

MISSING = ("", "n/a")


def read_events(root: str | Path, path: str) -> dict[str, list[str | None]] | None:
    """Read a recording's events.tsv.

    A release has tens of thousands of these small files, and making a pandas table of each takes
    ten times as long as reading it.

    Parameters
    ----------
    root
        The BIDS root.
    path
        The recording's file, relative to `root`.

    Returns
    -------
    dict or None
        The columns by name, one stripped text per event in the order of the file, None where the
        file has `n/a` or nothing. None instead when the recording has no events.tsv.

    Raises
    ------
    ValueError
        When the file is not a tab-separated table in UTF-8; says what is wrong with it.
    """
    file = sidecar(root, path, "events.tsv")
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.reader(lines, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file.name}: not a tab-separated table in UTF-8: {error}") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(map(str.strip, row))]
    if not rows:
        return {}
    header, *body = rows
    return {name: [_cell(row, place) for row in body] for place, name in enumerate(header) if name}


def _cell(row: list[str], place: int) -> str | None:
    """Return a cell; rows that end early lack their last ones."""
    if place >= len(row) or row[place] in MISSING:
        return None
    return row[place]
