"""Build the signal store: clean every recording that is new or has changed, in parallel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.clean_task import CleaningTask, clean_task, done_before
from hbn_foundation.signals.content import cleaning_hash
from hbn_foundation.signals.parallel import WorkerKilled, count_workers, run_parallel
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.store_files import describe_failure
from hbn_foundation.signals.store_index import INDEX, IndexBuilder, write_index_file

REASONS_SHOWN = 3


def build_store(
    recordings: pd.DataFrame,
    path: str | Path,
    cleaning: CleaningParams | None = None,
    n_jobs: int = -1,
    max_failed_share: float = 0.2,
) -> SignalStore:
    """Clean the recordings into a signal store; those cleaned before are left as they are.

    A recording is cleaned again when the content of its files or the parameters of the cleaning
    changed; files of the same size and time as last time are not read. Signals of recordings that
    are no longer selected, and of former contents and parameters, stay on disk and out of the
    index. One that cannot be used is in the table with its reason.

    Parameters
    ----------
    recordings
        From `find_recordings`.
    path
        The store's folder.
    cleaning
        How to clean; None is the defaults.
    n_jobs
        Worker processes; −1: one for each core, 1: none.
    max_failed_share
        The build stops as soon as a larger share of the recordings cannot be used.

    Returns
    -------
    SignalStore
        With the recordings of the table, in its order.

    Raises
    ------
    UserError
        Too many recordings cannot be used, or the disk is full. What is cleaned by then is kept
        and found by the next build; the index stays the former one.
    """
    cleaning = cleaning or CleaningParams()
    path = Path(path)
    tally = _Tally(len(recordings), max_failed_share)
    tasks = []
    for task in _tasks(recordings, path, cleaning):
        description = done_before(task)
        if description is None:
            tasks.append(task)
        else:
            tally.add(task.place, description)
    n_known = len(recordings) - len(tasks)
    results = _results(tasks, n_jobs)
    for place, description in track(results, "cleaning recordings", total=len(tasks)):
        tally.add(place, description)
    index = path / INDEX
    frame = tally.builder.frame()
    metadata = {**tally.builder.metadata(), "scale": cleaning.scale}
    write_index_file(index, frame, metadata)
    say(
        f"{path}: {len(tasks) - tally.n_failed_now} recordings cleaned, {n_known} known from "
        f"before, {len(tally.failures)} cannot be used"
    )
    return SignalStore.from_table(index, frame, metadata)


def _tasks(recordings: pd.DataFrame, path: Path, cleaning: CleaningParams) -> list[CleaningTask]:
    names = recordings["recording"]
    if names.duplicated().any():
        raise UserError(f"{path}: two recordings named {names[names.duplicated()].iat[0]!r}")
    key = cleaning_hash(cleaning)
    rows = recordings.astype(object).where(recordings.notna(), None).to_dict("records")
    return [
        CleaningTask(place, {str(k): v for k, v in row.items()}, str(path), cleaning, key)
        for place, row in enumerate(rows)
    ]


class _Tally:
    """The index so far, and whether too many recordings have failed."""

    def __init__(self, n_recordings: int, max_failed_share: float) -> None:
        self.builder = IndexBuilder()
        self.failures: list[str] = []
        self.n_failed_now = 0
        self._n, self._share = n_recordings, max_failed_share

    def add(self, place: int, description: Mapping[str, Any]) -> None:
        self.builder.add(place, description)
        if description["status"] == "ok":
            return
        self.failures.append(f"{description['recording']}: {description['reason']}")
        self.n_failed_now += not description.get("known", False)
        n_failed = len(self.failures)
        if n_failed > self._share * self._n or n_failed == self._n:
            first = "; ".join(self.failures[:REASONS_SHOWN])
            more = "; …" if n_failed > REASONS_SHOWN else ""
            raise UserError(
                f"{n_failed} of {self._n} recordings cannot be used, more than max_failed_share = "
                f"{self._share:g} allows: {first}{more}"
            )


def _results(tasks: list[CleaningTask], n_jobs: int) -> Iterator[tuple[int, dict[str, Any]]]:
    workers = min(count_workers(n_jobs), max(len(tasks), 1))
    for task, result in run_parallel(clean_task, tasks, workers):
        if isinstance(result, WorkerKilled):
            yield task.place, describe_failure(task.row, str(result), "", task.cleaning)
        else:
            yield task.place, result
