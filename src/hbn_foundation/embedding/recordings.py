"""Clean the recordings that somebody gives as the data of a checkpoint were cleaned.

Whatever is given becomes a task of the signal store's own cleaning, and a small store in a
temporary folder: there is no second way from a recording to windows.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from hbn_foundation.bids import entities, recording_name
from hbn_foundation.errors import UserError, count_of, first_few
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.quality import AMPLITUDES_UV
from hbn_foundation.signals.clean_task import RETRY_NOTE, CleaningTask, clean_task, limits
from hbn_foundation.signals.content import CLEANING_VERSION, cleaning_hash
from hbn_foundation.signals.index import MIN_AGREEMENT, IndexBuilder, write_index_file
from hbn_foundation.signals.parallel import WorkerKilled, run_parallel
from hbn_foundation.signals.params import BuildParams
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import COLUMNS, tiled

if TYPE_CHECKING:
    from hbn_foundation.training.checkpoint import Checkpoint

MIN_ELECTRODES = 2
MAX_LOW = 2.0
"""Times the checkpoint's high-pass, above which a recording's is said to lack."""
MIN_BAND = 0.8
"""Share of the checkpoint's band, from 0 Hz up, below which a recording's is said to lack."""
AT_ONCE = 32
"""Recordings, or subjects, whose signals lie on the disk at a time."""
OF_EPOCHS = (
    "Epochs are filtered each on its own and scaled over what they hold, as their recording is not "
    "known: the features are near those of the recording, not the same; give the Raw for those"
)

ALONE = (
    "the checkpoint takes all recordings of a subject together (scale: subject, or a context of "
    "subjects), and features depend on which are given"
)


@dataclass(frozen=True)
class Given:
    """One recording that was given: a row as of `find_recordings`; `raw` if it is in memory.

    `starts` are the seconds at which its epochs begin and `seconds` how long they are, if it was
    cut.
    """

    row: dict[str, Any]
    raw: Any = None
    starts: np.ndarray | None = None
    seconds: float = 0.0


def recordings_given(recordings: Any) -> list[Given]:
    """List what was given: a Raw, Epochs, the path of a file or of a BIDS root, or several.

    Raises
    ------
    UserError
        When it is nothing of that.
    """
    import mne

    if isinstance(recordings, mne.io.BaseRaw):
        return [Given(_row_of_raw(recordings), recordings)]
    if isinstance(recordings, mne.BaseEpochs):
        return [_of_epochs(recordings)]
    if isinstance(recordings, str | Path):
        return _at_path(Path(recordings))
    if not isinstance(recordings, Sequence | np.ndarray | pd.Series) or not len(recordings):
        raise UserError(
            f"recordings: found {type(recordings).__name__}; expected a Raw, Epochs, the path of a "
            "file or of a BIDS root, or a list of these"
        )
    return [one for part in recordings for one in recordings_given(part)]


def _at_path(path: Path) -> list[Given]:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir() and path.suffix.lower() != ".mff":
        from hbn_foundation.recordings.find import find_recordings

        rows: Any = find_recordings(path).to_dict("records")
        return [Given(row) for row in rows]
    path = path.absolute()
    row = _row(path.name)
    root = _root_of(path, row["subject"])
    place = {"bids_root": str(root), "path": path.relative_to(root).as_posix()}
    return [Given(row | place)]


def _root_of(path: Path, subject: str) -> Path:
    """Find the data set that a file lies in: above the subject's folder, if there is one."""
    found = (parent.parent for parent in path.parents if parent.name == f"sub-{subject}")
    return next(found, path.parent.parent)


def _row(name: str) -> dict[str, Any]:
    """Name recording and subject, as far as a file's name tells them."""
    parts = entities(name)
    row = {"recording": recording_name(name) or Path(name).stem, "subject": parts.get("sub", "")}
    of = {"session": "ses", "task": "task", "run": "run"}
    return row | {column: parts.get(entity) for column, entity in of.items()} | {"bids_root": ""}


def _row_of_raw(raw: Any) -> dict[str, Any]:
    names = [name for name in getattr(raw, "filenames", ()) if name]
    row = _row(Path(names[0]).name if names else "raw") | {"path": ""}
    root = _root_of(Path(names[0]).absolute(), row["subject"]) if names else ""
    return row | {"bids_root": str(root)}


def _of_epochs(epochs: Any) -> Given:
    """Put epochs behind each other, a cut before each.

    Events count samples of the recording, whatever the rate of the epochs is now.
    """
    import mne

    data = epochs.get_data(copy=True)
    if not len(data):
        raise UserError("Epochs: none are left (see epochs.plot_drop_log), expected at least one")
    warnings.warn(OF_EPOCHS, stacklevel=2)
    seconds = data.shape[2] / epochs.info["sfreq"]
    raw = mne.io.RawArray(np.concatenate(list(data), axis=1), epochs.info.copy(), verbose="ERROR")
    cuts = mne.Annotations(seconds * np.arange(1, len(data)), 0.0, "BAD boundary")
    raw.set_annotations(cuts)
    starts = epochs.events[:, 0] / epochs._raw_sfreq + epochs.tmin
    return Given(_row(f"{Path(epochs.filename or 'epochs').stem}"), raw, starts, seconds)


@dataclass(frozen=True)
class SignalWay:
    """The way from a raw recording to windows, as the metadata of a checkpoint tell it.

    `positions` are unit vectors by channel. Models of volts need all these channels, in their
    order (`of_volts`). Recordings of a subject are scaled, or averaged, `together`.
    """

    cleaning: CleaningParams
    n_samples: int
    positions: Mapping[str, list[float]]
    of_volts: bool = False
    together: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint, of_volts: bool, context_of: str) -> SignalWay:
        """Read it from a checkpoint.

        Raises
        ------
        UserError
            When the checkpoint does not tell it, or tells what this version does not know.
        """
        found = checkpoint.metadata
        version = f"made by {found.get('versions', {}).get('hbn-foundation', 'an earlier version')}"
        if not found.get("cleaning"):
            raise UserError(
                f"checkpoint: how its signals were cleaned is not recorded ({version}), and so no "
                "raw recording can be embedded with it; train it anew"
            )
        try:
            cleaning = CleaningParams(**found["cleaning"])
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise UserError(
                f"checkpoint: cleaning.{key} means nothing to this version ({version}); use the "
                "program that made it, or train it anew"
            ) from None
        if found.get("cleaning_version", CLEANING_VERSION) != CLEANING_VERSION:
            warnings.warn(
                f"checkpoint: its signals were cleaned by version {found['cleaning_version']} of "
                f"the cleaning, here it is {CLEANING_VERSION}: features may differ",
                stacklevel=2,
            )
        positions = dict(zip(found["channel_names"], found.get("positions", ()), strict=False))
        if of_volts and not positions:
            raise UserError(
                "checkpoint: it takes volts of channels whose positions are not recorded "
                f"({version}); train it anew"
            )
        together = cleaning.scale == "subject" or context_of == "subject"
        return cls(cleaning, int(found["n_samples"]), positions, of_volts, together)


@dataclass
class CleanedRecordings:
    """Clean recordings, some at a time, in small stores; `failures` are those that cannot be used.

    `lows` and `edges` are the lower and upper edges in Hz of those whose band begins well above, or
    ends well below, that of the checkpoint.
    Iterating gives a store and its windows: `row`, `recording` (its place in `given`, as text),
    `subject`, `task`, `run`, `start` (samples) and `onset` (s), side by side.
    """

    given: Sequence[Given]
    way: SignalWay
    n_jobs: int = 0
    failures: list[str] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[SignalStore, pd.DataFrame]]:
        places = sorted(range(len(self.given)), key=lambda place: (self._group(place), place))
        groups = [list(group) for _, group in groupby(places, key=self._group)]
        if self.way.together and (alone := sum(len(group) == 1 for group in groups)):
            warnings.warn(f"{ALONE}; {count_of(alone, 'recording')} given alone", stacklevel=3)
        stores = track(self._stores(groups), "recordings read", total=len(groups))
        for store in stores:
            if store is not None:
                yield from self._windows(store)

    def _stores(self, groups: Sequence[list[int]]) -> Iterator[SignalStore | None]:
        """Clean groups of recordings, some at a time, whose signals then lie on the disk."""
        for first in range(0, len(groups), AT_ONCE):
            some = groups[first : first + AT_ONCE]
            with tempfile.TemporaryDirectory(prefix="hbn-foundation-") as folder:
                found = self._cleaned(Path(folder), [place for group in some for place in group])
                for group in some:
                    cleaned = {place: found[place] for place in group if place in found}
                    yield self._store(Path(folder), cleaned) if cleaned else None

    def _group(self, place: int) -> str:
        """Name what is cleaned on its own: a recording, or those of a subject of a data set."""
        row = self.given[place].row
        if self.way.together and row["subject"]:
            return f"{Path(row['bids_root']).absolute()}/sub-{row['subject']}"
        return f"{place:09d}"

    def _cleaned(self, folder: Path, places: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Describe the clean recordings, whose signals are then in the folder."""
        key = cleaning_hash(self.way.cleaning)
        tasks = []
        for place in places:
            one = self.given[place]
            row = {**one.row, "recording": str(place)}  # names may occur twice
            tasks.append(CleaningTask(place, row, str(folder), self.way.cleaning, key, raw=one.raw))
        in_memory = any(task.raw is not None for task in tasks)
        n_jobs = 0 if in_memory or len(tasks) == 1 else self.n_jobs
        found = {}
        bounds = limits(BuildParams(), lambda task: task.row)
        for task, result in run_parallel(clean_task, tasks, n_jobs, bounds):
            if isinstance(result, WorkerKilled):
                self._fail(task.place, str(result))
            elif why := self._fault(result):
                self._fail(task.place, why)
            else:
                found[task.place] = result
                quality = json.loads(result["quality"])
                low, edge = quality["l_freq"], quality["h_freq"]
                self.lows += [low] if low > MAX_LOW * self.way.cleaning.l_freq else []
                self.edges += [edge] if edge < MIN_BAND * self._upper else []
        return found

    @property
    def _upper(self) -> float:
        return min(self.way.cleaning.h_freq, self.way.cleaning.sfreq / 2)

    def _fault(self, description: Mapping[str, Any]) -> str:
        """Say why a recording cannot be used; empty where it can."""
        if description["status"] != "ok":
            return str(description["reason"]).removesuffix(RETRY_NOTE)
        amplitude, (least, most) = json.loads(description["quality"])["amplitude_uv"], AMPLITUDES_UV
        if amplitude is not None and not least <= amplitude <= most:
            return (
                f"median amplitude of {amplitude:.3g} µV, expected {least:g} to {most:g} µV; its "
                "unit is probably wrong, give it in channels.tsv or scale the Raw to volts"
            )
        names = description["channels"].split("\t")
        bad = set(description["bad"].split("\t"))
        if (usable := len(set(names) - bad)) < MIN_ELECTRODES:
            return (
                f"{usable} usable electrode with a known position of {len(names)}, "
                f"at least {MIN_ELECTRODES} are needed"
            )
        strange = [name for name in names if name not in self.way.positions]
        if self.way.of_volts and strange:
            return (
                f"the checkpoint takes volts of its own {len(self.way.positions)} channels, and "
                f"does not know {first_few(strange)}"
            )
        return ""

    def _fail(self, place: int, why: str) -> None:
        row = self.given[place].row
        name = row["path"] if row.get("path") else row["recording"]
        self.failures.append(f"{name}: {why}")

    def _store(self, folder: Path, cleaned: Mapping[int, Mapping[str, Any]]) -> SignalStore:
        """Index recordings; electrodes lie where the checkpoint has them, if that is near."""
        index = IndexBuilder()
        for place, description in cleaned.items():
            index.add(place, description)
        frame, metadata = index.content(scale=self.way.cleaning.scale)
        own, known = metadata["layout"], self.way.positions
        near = {
            name: known[name]
            for name, place in own.items()
            if name in known and np.dot(known[name], place) >= MIN_AGREEMENT
        }
        layout = {**(known if self.way.of_volts else {}), **own, **near}
        content = frame, {**metadata, "layout": layout}
        path = folder / f"{min(cleaned)}.parquet"
        write_index_file(path, *content)
        return SignalStore(path, content)

    def _windows(self, store: SignalStore) -> Iterator[tuple[SignalStore, pd.DataFrame]]:
        n_samples, sfreq = self.way.n_samples, store.sfreq
        found = tiled(store.ranges, n_samples, n_samples, sfreq)
        free = (store.ranges["stop"] - store.ranges["start"]).groupby(store.ranges["row"]).max()
        for row, place in enumerate(store.recordings["recording"]):
            if row not in found["row"].to_numpy():
                longest, needed = free.get(row, 0) / sfreq, n_samples / sfreq
                self._fail(
                    int(place),
                    f"shorter than a window of {needed:g} s: {longest:g} s at most are free of "
                    "gaps and bad segments",
                )
        if len(found):
            windows = store.recordings.loc[found["row"], list(COLUMNS)].reset_index(drop=True)
            columns = {name: found[name].to_numpy() for name in ("row", "start", "onset")}
            yield store, windows.assign(**columns)

    def measured(
        self, measure: Callable[[SignalStore, pd.DataFrame], Any], skip: bool
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Measure something of all windows; in the order of what was given, and of time.

        Returns
        -------
        pandas.DataFrame
            `subject`, `recording`, `start` (s) and `unit`, which counts recordings, and the epochs
            of those that were cut.
        pandas.DataFrame
            What `measure` gives for a store and its windows.

        Raises
        ------
        UserError
            A recording cannot be used, unless those are to be left out (`skip`) and others remain.
        """
        parts = [(windows, pd.DataFrame(measure(store, windows))) for store, windows in self]
        n, of = len(self.failures), len(self.given)
        if n and (not skip or not parts):
            count = f"{n} of {of} recordings cannot be used: " if of > 1 else ""
            raise UserError(f"{count}{first_few(self.failures, 3)}")
        for line in self.failures:
            say(f"left out: {line}")
        if self.edges:
            warnings.warn(
                f"{count_of(len(self.edges), 'recording')} of {of} end at {min(self.edges):g} Hz "
                f"or little above, the checkpoint's own at {self._upper:g} Hz: by their rate or "
                "low-pass they lack a part of the band, and their features are unlike others",
                stacklevel=3,
            )
        if self.lows:
            warnings.warn(
                f"{count_of(len(self.lows), 'recording')} of {of} begin at {max(self.lows):g} Hz "
                f"or below, the checkpoint's own at {self.way.cleaning.l_freq:g} Hz: by "
                "their high-pass they lack a part of the band, and their features are unlike "
                "others",
                stacklevel=3,
            )
        windows, values = (pd.concat(some, ignore_index=True) for some in zip(*parts, strict=True))
        order = np.argsort(windows["recording"].to_numpy(int), kind="stable")
        table = self._identity(windows.iloc[order].reset_index(drop=True))
        return table, values.iloc[order].reset_index(drop=True)

    def _identity(self, windows: pd.DataFrame) -> pd.DataFrame:
        places = windows["recording"].to_numpy(int)
        start, epoch = windows["onset"].to_numpy(float, copy=True), np.zeros(len(windows), int)
        for place, one in enumerate(self.given):
            if one.starts is not None:
                mine = places == place
                epoch[mine] = np.floor(start[mine] / one.seconds + 1e-6)
                start[mine] += one.starts[epoch[mine]] - epoch[mine] * one.seconds
        rows = [self.given[place].row for place in places]
        table = pd.DataFrame(rows, columns=["subject", "recording"]).assign(start=start)
        return table.assign(unit=table.groupby([places, epoch]).ngroup())
