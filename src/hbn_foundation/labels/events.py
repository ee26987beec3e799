"""Events of recordings, and the classes or numbers that a label makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from hbn_foundation.bids import sidecar
from hbn_foundation.errors import UserError, as_text, first_few, one_line
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.progress import say, track
from hbn_foundation.sidecars import Table, number, read_table

IDENTITY = ["recording", "subject", "task", "run"]
TIMES = ["onset", "duration"]
UNKNOWN_TEXTS = ("", "n/a")


def recording_events(recordings: pd.DataFrame, *, annotations: bool = True) -> pd.DataFrame:
    """Read the events of every recording: of events.tsv, or else the annotations in the file.

    Parameters
    ----------
    recordings
        Table as returned by `find_recordings`: `recording`, `subject`, `task`, `run`, `path`,
        `bids_root`.
    annotations
        Whether to open the files of recordings without an events.tsv.

    Returns
    -------
    pandas.DataFrame
        One row per event, in the order of the recordings and of their files: `recording`,
        `subject`, `task`, `run`, `onset` and `duration` (s; NaN where unknown), and all other
        columns of the tables as text, missing where the table has none or ``n/a``. Annotations
        have the column `trial_type`. What cannot be read is logged.
    """
    import pyarrow as pa

    parts, broken, annotated = [], [], []
    listed = recordings[[*IDENTITY, "bids_root", "path"]].astype(object)
    listed = listed.where(listed.notna(), None)
    rows = listed.itertuples(index=False, name=None)
    for *identity, root, path in track(rows, "Reading events", total=len(recordings)):
        try:
            file = sidecar(root, path, "events.tsv")
            if file is None and not annotations:
                continue
            table = _annotations(Path(root, path)) if file is None else read_table(file, TIMES)
        except Exception as error:  # a damaged file raises whatever its reader runs into
            broken.append(f"{identity[0]}: {one_line(error)}")
            continue
        if file is None and table.rows:
            annotated.append(identity[0])
        own = dict(zip(IDENTITY, identity, strict=True))
        parts.append(pa.Table.from_pylist([{**row, **own} for row in table.rows]))
    if annotated:
        say(
            f"{len(annotated)} of {len(recordings)} recordings have no events.tsv; their events "
            f"are the annotations in the file: {first_few(annotated)}"
        )
    if broken:
        say(
            f"the events of {len(broken)} of {len(recordings)} recordings cannot be read: "
            f"{first_few(broken, 2)}"
        )
    parts = [part for part in parts if part.num_rows]
    joined = pa.concat_tables(parts, promote_options="permissive") if parts else None
    events = pd.DataFrame(columns=IDENTITY) if joined is None else joined.to_pandas()
    others = [name for name in events if name and name not in (*IDENTITY, *TIMES)]
    texts = events[[*IDENTITY, *others]].astype("string").replace(list(UNKNOWN_TEXTS), pd.NA)
    times = {name: events.get(name, pd.Series(dtype=object)).map(number) for name in TIMES}
    return texts.assign(**{name: column.astype(float) for name, column in times.items()})


def _annotations(path: Path) -> Table:
    """Read the annotations in a file as a table of events; onsets count from the first sample."""
    import mne

    if not path.exists():
        return Table([], [], [])
    first = 0.0
    if path.suffix.lower() in (".fif", ".vhdr", ".mff"):
        raw = mne.io.read_raw(path, verbose="error")
        found, first = raw.annotations, raw.first_time
    else:  # in files with gaps, too, which the reader of signals refuses
        found = mne.read_annotations(path)
    columns = (found.onset - first, found.duration, found.description)
    rows = [
        {"onset": repr(float(onset)), "duration": repr(float(duration)), "trial_type": str(text)}
        for onset, duration, text in zip(*columns, strict=True)
    ]
    return Table([*TIMES, "trial_type"], rows, [])


def label_events(events: pd.DataFrame, label: LabelParams) -> pd.DataFrame:
    """Choose the events that a label names, and give each its class or number.

    Parameters
    ----------
    events
        As returned by `recording_events`.
    label
        Of the kind `event`.

    Returns
    -------
    pandas.DataFrame
        `recording`, `subject`, `task`, `run`, `onset`, `duration`, `event` (the class or number as
        text) and `event_number` (from 0 in each recording). Values of the column that the label
        does not name, and events without an onset, are left out and logged.

    Raises
    ------
    UserError
        When a column does not exist, or no event is left.
    """
    column = str(label.column)
    if events.empty:
        raise UserError(
            "labels: kind: event, but the recordings have no events, neither an events.tsv nor "
            "annotations in the file; where the data set has some, run ingestion again"
        )
    texts = _column(events, column)
    chosen = texts.notna()
    for other, wanted in label.where.items():
        chosen &= _classes(_column(events, other)[chosen], wanted).reindex(events.index).notna()
    classes = _classes(texts[chosen], label.values)
    used = classes.dropna()
    if used.empty:
        where = "".join(f", where {key} is {' or '.join(v)}" for key, v in label.where.items())
        named = first_few(label.values or (), 10) or "any value"
        raise UserError(
            f"label.values: {named}{where} matches none of {len(events)} events, whose {column} "
            f"is {_counted(texts)}"
        )
    found = set(texts[used.index])
    idle = [key for key in label.values or () if not any(_matches(key, text) for text in found)]
    if idle:
        say(f"label.values: no event is {first_few(idle, 10)}")
    if rest := _counted(texts[chosen].drop(used.index)):
        say(f"events that label.values does not name: {rest}")
    table = events.loc[used.index, [*IDENTITY, *TIMES]].assign(event=used.astype(object))
    without = table["onset"].isna()
    if without.all():
        raise UserError(f"labels: none of the {len(table)} events of {column} has an onset")
    if without.any():
        say(f"{without.sum()} of {len(table)} events of {column} have no onset and are left out")
    table = table[~without].reset_index(drop=True)
    return table.assign(event_number=table.groupby("recording").cumcount())


def _column(events: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of the events, found in another case, too."""
    found = {str(column).lower(): column for column in events}
    if name not in events and name.lower() not in found:
        others = [column for column in events if column not in (*IDENTITY, *TIMES)]
        raise UserError(
            f"labels: column {name} is in no events.tsv; the columns are {first_few(others, 20)}"
        )
    return events[name if name in events else found[name.lower()]].astype("string")


def _classes(texts: pd.Series, wanted: Mapping[str, str] | Iterable[str] | None) -> pd.Series:
    """Give each text the class of the key that it matches, missing where none does.

    Names and beginnings come before patterns, the longest first. Without a mapping, a name or a
    beginning is a class of its own, and what a pattern matches keeps its own name.
    """
    if wanted is None:
        return texts
    keys = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted)

    ordered = sorted(keys, key=lambda key: (_is_pattern(key), -len(key)))

    def class_of(text: str) -> str | None:
        for key in ordered:
            if _matches(key, text):
                return keys[key] or (text if _is_pattern(key) else key)
        return None

    return texts.map({text: class_of(text) for text in texts.dropna().unique()})


def _is_pattern(key: str) -> bool:
    return any(sign in key for sign in "*?[")


def _matches(key: str, text: str) -> bool:
    """Tell whether a text is a name, one of its parts below (``stimulus/left``), or a number."""
    if _is_pattern(key):
        return fnmatchcase(text, key)
    numbers = number(key), number(text)
    return text == key or text.startswith(f"{key}/") or (numbers[0] == numbers[1])


def _counted(texts: pd.Series) -> str:
    """List different texts with their counts, the most frequent first."""
    counts = texts.value_counts()
    return first_few((f"{as_text(text)} ({count})" for text, count in counts.items()), 10)
