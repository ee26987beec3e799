"""Build the signal store: clean every recording that is new or has changed, in parallel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, renamed_when_done
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.find import dataset_names
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.clean_task import (
    RETRY_NOTE,
    SIGNALS,
    CleaningTask,
    clean_task,
    describe_failure,
    limits,
)
from hbn_foundation.signals.content import cleaning_hash, file_signature
from hbn_foundation.signals.index import INDEX, TEXT_COLUMNS, IndexBuilder, write_index_file
from hbn_foundation.signals.journal import Journal
from hbn_foundation.signals.parallel import WorkerKilled, run_parallel
from hbn_foundation.signals.params import BuildParams
from hbn_foundation.signals.store import SignalStore

MAX_REASONS = 3
FAILED = "failed.csv"
"""Table of the recordings that cannot be used, written when they end the build."""


def build_store(
    recordings: pd.DataFrame, build: BuildParams, cleaning: CleaningParams | None = None
) -> SignalStore:
    """Clean recordings into a signal store; those that have not changed are not cleaned again.

    A recording is cleaned again when the content of its files or the parameters of the cleaning
    change; files whose size and modification time are unchanged are not read. Signals of
    recordings that are no longer selected, and of earlier contents and parameters, stay on disk
    and are left out of the index. A recording that cannot be used is in the table with its reason.

    Parameters
    ----------
    recordings
        From `find_recordings`; the store has them in this order.
    build
        The store's folder, and the limits of the workers.
    cleaning
        Parameters of the cleaning; the defaults if None.

    Raises
    ------
    UserError
        The store cannot be written, the disk is full, or too many recordings cannot be used:
        `failed.csv` in the store's folder then lists them. The signals cleaned so far are kept
        for the next build; the index is not changed.
    """
    cleaning = cleaning or CleaningParams()
    path = Path(build.path)
    _check_writable(path)
    journal = Journal(path)
    tally = _Tally(len(recordings), build.max_failed_share, path / FAILED)
    tasks = []
    for task in _tasks(recordings, path, cleaning):
        recording = str(task.row["recording"])
        description = journal.find(recording, task.cleaning, file_signature(task.row))
        if description is None:
            tasks.append(replace(task, known=journal.known(recording, task.cleaning)))
        else:
            tally.add(task.place, description)
    n_unchanged = len(recordings) - len(tasks) - len(tally.failures)
    results = run_parallel(clean_task, tasks, build.n_jobs, limits(build, lambda task: task.row))
    for task, result in track(results, "cleaning recordings", total=len(tasks)):
        if isinstance(result, WorkerKilled):
            tally.add(task.place, describe_failure(task.row, f"{result}{RETRY_NOTE}"))
            continue
        if result["files"]:
            journal.add(result)
        tally.add(task.place, result)
    journal.merge()
    values, names = cleaning.model_dump(mode="json"), dataset_names(recordings)
    content = tally.index.content(scale=cleaning.scale, cleaning=values, datasets=names)
    write_index_file(path / INDEX, *content)
    (path / FAILED).unlink(missing_ok=True)
    n_cleaned = len(recordings) - n_unchanged - len(tally.failures)
    counts = f"{n_unchanged:,} unchanged, {len(tally.failures)} cannot be used{tally.reasons()}"
    say(f"{path}: {_recordings(n_cleaned)} cleaned, {counts}")
    _say_notes(content[0])
    return SignalStore(path, content)


def _say_notes(frame: pd.DataFrame) -> None:
    """Log how much of the recordings is left out, and that the quality table has notes."""
    if "seconds_left_out" in frame:
        seconds = frame["seconds_left_out"].dropna()
        if n := int((seconds > 0).sum()):
            say(f"{seconds.sum():,.1f} s of {_recordings(n)} are left out as pauses, short "
                "stretches or bad segments")  # fmt: skip
    if "note" in frame:
        notes = frame["note"].fillna("")
        if n := int((notes != "").sum()):
            first = notes[notes != ""].iat[0]
            say(f"the quality table has a note on {_recordings(n)}, the first: {first}")


def _recordings(n: int) -> str:
    return f"{n:,} recording" + ("" if n == 1 else "s")


def _check_writable(path: Path) -> None:
    """Make sure that the store's folders can be written, before a recording is blamed for it."""
    for folder in (path, path / SIGNALS):
        try:
            with full_disk_named(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise UserError(
                f"store.path: {folder} cannot be written ({error.strerror or error}); expected "
                "a folder for the clean signals"
            ) from error


def _tasks(
    recordings: pd.DataFrame, path: Path, cleaning: CleaningParams
) -> Iterator[CleaningTask]:
    names = recordings["recording"]
    if names.duplicated().any():
        raise UserError(f"{path}: two recordings named {names[names.duplicated()].iat[0]!r}")
    key = cleaning_hash(cleaning)
    rows = recordings.astype(object).where(recordings.notna(), None).to_dict("records")
    for place, row in enumerate(rows):
        yield CleaningTask(place, {str(k): v for k, v in row.items()}, str(path), cleaning, key)


class _Tally:
    """The index of the recordings so far; an error once too many of them have failed."""

    def __init__(self, n_recordings: int, max_failed_share: float, failed_file: Path) -> None:
        self.index = IndexBuilder()
        self.failures: list[str] = []
        self._n, self._share, self._failed_file = n_recordings, max_failed_share, failed_file
        self._n_seen = 0

    def add(self, place: int, description: Mapping[str, Any]) -> None:
        """Add a recording; write the failed ones and raise a UserError once they are too many."""
        self.index.add(place, description)
        self._n_seen += 1
        if description["status"] == "ok":
            return
        self.failures.append(f"{description['recording']}: {description['reason']}")
        n_failed = len(self.failures)
        if n_failed <= self._share * self._n and n_failed < self._n:
            return
        frame = self.index.frame()
        with renamed_when_done(self._failed_file) as temporary:
            failed = frame.loc[frame["status"] == "failed", list(TEXT_COLUMNS)]
            failed.to_csv(temporary, index=False)
        of = f"{self._n} recordings"
        if self._n_seen < self._n:
            of = f"the first {self._n_seen} recordings ({self._n} in all)"
        limit = f", more than max_failed_share = {self._share:g} allows"
        raise UserError(
            f"{n_failed} of {of} cannot be used{limit if n_failed < self._n else ''}"
            f"{self.reasons()}; see {self._failed_file}"
        )

    def reasons(self) -> str:
        """Return why the first failed recordings cannot be used; empty if none failed."""
        first = "; ".join(self.failures[:MAX_REASONS])
        more = "; …" if len(self.failures) > MAX_REASONS else ""
        return f": {first}{more}" if first else ""
