"""The folder of one training run: its identity, its checkpoints, and its lock.

Reads and checks files only; imports no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named, write_json
from hbn_foundation.progress import say
from hbn_foundation.training.supervision.heartbeat import FILE as HEARTBEAT
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat
from hbn_foundation.training.supervision.incidents import DAMAGED, KILLED, Incident, record

#: Markers: the result is stored elsewhere; the checkpoints are removed; they stay for good.
DONE, REMOVED, KEPT = "done", "removed", "kept"
RUN, LOCK, HISTORY = "run.json", "lock", "history.json"
BEST, LAST = "best", "last"  # last: of an epoch cut short, or where nothing was validated
FITTED = "fitted"  # what is computed before the first step, for every attempt of the run
METADATA, WEIGHTS, STATE = "metadata.json", "weights.safetensors", "state.safetensors"
DIGESTS = {WEIGHTS: "weights_sha256", STATE: "state_sha256"}
OWN_DIGEST = "metadata_sha256"
LOCK_PATIENCE = 0.5  # seconds; who only asks whether a folder is in use holds the lock far shorter
ASIDE = ".damaged"
EPOCH = re.compile(r"epoch-\d{3,}")
SPARE_BYTES = 64 * 1024**2  # bytes for logs, and whatever else writes to the disk


class RunFolder:
    """One run's folder, locked for this process from its opening to `close`.

    Parameters
    ----------
    path
        The folder; it is made.
    identity
        All that the weights depend on, as JSON.

    Raises
    ------
    UserError
        When another process holds it, or it cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        try:
            with full_disk_named(path):
                path.mkdir(parents=True, exist_ok=True)
                self._lock = open(path / LOCK, "a+")  # noqa: SIM115 - held until `close`
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); set trainer.work_dir to a folder "
                "that can"
            ) from None
        self.path = path
        self._opened = time.monotonic()
        if not try_lock(self._lock, patience=LOCK_PATIENCE):
            self._lock.close()
            holder = (path / LOCK).read_text().strip() or "unknown"
            raise UserError(
                f"{path}: this training is running already (process {holder}); wait for "
                "it, or set trainer.resume: false to train another one beside it"
            )
        self._lock.seek(0)
        before = self._lock.read().strip()  # empty where that one closed it
        with full_disk_named(path):
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()
        if not (path / RUN).exists():
            write_json(path / RUN, {"identity": identity})
        if before:
            what = f"the run before (process {before}) was killed, or the machine went down"
            self._record(KILLED, what, "resuming from the last whole checkpoint")

    def close(self) -> None:
        """Release the lock."""
        if not self._lock.closed:
            self._lock.truncate(0)
            self._lock.close()

    def _record(self, kind: str, what: str, action: str) -> None:
        seconds = time.monotonic() - self._opened
        beat = read_beat(self.path) or Beat()
        record(self.path, Incident.now(beat, kind, what, action, seconds))

    def set_aside(self, folder: Path, problem: str) -> None:
        """Rename a checkpoint that cannot be used, and record it."""
        aside = folder.with_name(f"{folder.name}{ASIDE}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        action = f"renamed to {aside.name}, the one before is used"
        self._record(DAMAGED, f"{folder.name}: {problem}", action)

    def newest(self) -> tuple[Path | None, int]:
        """Find the newest whole checkpoint, and how many epochs are done in it.

        A damaged one is renamed, with a line, and the one before is taken.
        """
        for folder in reversed(epochs_in(self.path)):
            problem = damage(folder)
            if problem is None and _metadata(folder).get("format_version") == 1:
                problem = "written by an older version of this program"
            if problem is None:
                return folder, int(folder.name.removeprefix("epoch-"))
            self.set_aside(folder, problem)
        return None, 0

    def check_best(self) -> None:
        """Rename a damaged best checkpoint; the best of those that are left replaces it."""
        best = self.path / BEST
        problem = damage(best) if best.exists() else None
        if problem is not None:
            self.set_aside(best, problem)


def epochs_in(folder: Path) -> list[Path]:
    """List the checkpoints of epochs in a folder, oldest first, whole or not."""
    found = [path for path in folder.glob("epoch-*") if EPOCH.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("epoch-")))


def mark_done(path: Path, keep_epochs: bool = False) -> None:
    """Mark a run whose result is stored elsewhere, and remove the checkpoints of its epochs.

    They stay where another process uses the folder, and for good where they are to be kept.
    """
    if not path.is_dir():
        return
    taken = in_use(path)
    if keep_epochs:
        (path / KEPT).touch()
    (path / DONE).touch()
    epochs = [] if keep_epochs else epochs_in(path)
    for folder in [] if taken else [*epochs, path / FITTED, *path.glob(f"*{ASIDE}")]:
        shutil.rmtree(folder, ignore_errors=True)


def _metadata(folder: Path) -> Any:
    return json.loads((folder / METADATA).read_text())


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint folder; None when its files match their digests."""
    try:
        metadata = _metadata(folder)
        whole = metadata[OWN_DIGEST] == own_digest(metadata)
    except FileNotFoundError:
        return f"{METADATA} is missing"
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        return f"{METADATA} is damaged"
    for name, key in DIGESTS.items():
        if key not in metadata and name == STATE:
            continue
        try:
            with open(folder / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return f"{name} is missing"
        if digest != metadata.get(key):
            return f"{name} is damaged, its digest differs"
    return None


def own_digest(metadata: dict[str, Any]) -> str:
    """Digest of all metadata but the digest itself."""
    rest = {key: value for key, value in metadata.items() if key != OWN_DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def try_lock(file: Any, patience: float = 0.0, shared: bool = False) -> bool:
    """Lock a file; False when another process holds it for longer than `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)


def in_use(path: Path) -> bool:
    """Tell whether a process holds the folder."""
    try:
        with open(path / LOCK) as file:
            return not try_lock(file, shared=True)
    except FileNotFoundError:
        return False


def open_run(work_dir: Path, run_id: str, identity: dict[str, Any], resume: bool) -> RunFolder:
    """Open the folder of a run to resume, or that of a new one.

    Parameters
    ----------
    work_dir
        Folder of all runs.
    run_id
        Name of a new run.
    identity
        All that the weights depend on, as JSON.
    resume
        Whether the newest run of this identity that is not done is resumed.

    Raises
    ------
    UserError
        When the run is in use.
    """
    refused = None
    for folder in _unfinished(work_dir) if resume else []:
        difference = _difference(folder, identity)
        if difference is None:
            run = RunFolder(folder, identity)
            say(f"resuming the run {folder.name} after epoch {run.newest()[1]}")
            return run
        if refused is None and not in_use(folder) and any(folder.glob("epoch-*")):
            refused = f"the unfinished run {folder.name} is not resumed: {difference}"
    if refused is not None:
        say(f"{refused}; a new one begins")
    run = RunFolder(work_dir / run_id, identity)
    shutil.rmtree(run.path / FITTED, ignore_errors=True)  # of another run under this name
    return run


def _unfinished(work_dir: Path) -> list[Path]:
    """List the runs that can be resumed, newest first."""
    runs = sorted(work_dir.glob(f"*/{RUN}"), key=lambda path: path.stat().st_mtime, reverse=True)
    ended = (DONE, REMOVED)
    return [run.parent for run in runs if not any((run.parent / name).exists() for name in ended)]


def _difference(folder: Path, identity: dict[str, Any]) -> str | None:
    try:
        there = dict(json.loads((folder / RUN).read_text())["identity"])
    except (ValueError, KeyError, TypeError):
        return f"its {RUN} is damaged"
    return first_difference(there, identity)


def first_difference(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> str | None:
    """Name the first parameter or data in which two identities differ; None without any."""
    for key in sorted({*there, *here}):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found = first_difference(a, b, f"{prefix}{key}.")
            if found:
                return found
        elif a != b:
            return f"{prefix}{key} is {a} there and {b} here"
    return None


def prune(work_dir: Path, keep: Path, keep_unfinished: int) -> None:
    """Limit the disk that runs use: remove the checkpoints of those that are done.

    The run `keep` stays as it is, also one whose epochs are kept for good, and of the unfinished
    ones the last `keep_unfinished`.
    """
    for marker in work_dir.glob(f"*/{DONE}"):
        if marker.parent != keep and not (marker.parent / KEPT).exists():
            _remove_checkpoints(marker.parent)
    prune_unfinished([path for path in _unfinished(work_dir) if path != keep], keep_unfinished)


def prune_unfinished(folders: Iterable[Path], keep: int) -> None:
    """Remove the checkpoints of unfinished runs but for the last few, and say so in a line.

    Runs in use stay; of the others, the `keep` that were trained last.
    """
    with_some = [path for path in folders if _checkpoints(path)]
    removed = {}
    for folder in sorted(with_some, key=_last_beat, reverse=True)[keep:]:
        size = _remove_checkpoints(folder)
        if size is not None:
            (folder / REMOVED).touch()
            removed[folder] = size
    if removed:
        names = ", ".join(str(folder) for folder in removed)
        say(
            f"{sum(removed.values()) / 1e6:,.0f} MB freed: the checkpoints of unfinished runs are "
            f"removed but for the last {keep} (trainer.keep_unfinished), those of {names}"
        )


def _checkpoints(folder: Path) -> list[Path]:
    kept = [folder / name for name in (BEST, LAST, FITTED)]
    found = [*epochs_in(folder), *kept, *folder.glob(f"*{ASIDE}")]
    return [path for path in found if path.is_dir()]


def _remove_checkpoints(folder: Path) -> int | None:
    """Remove them and count their bytes; None where a process holds the folder."""
    try:
        with open(folder / LOCK, "r+") as file:
            if not try_lock(file):
                return None
            parts = _checkpoints(folder)
            size = sum(path.stat().st_size for part in parts for path in part.iterdir())
            for part in parts:
                shutil.rmtree(part, ignore_errors=True)
    except OSError:  # there is no lock, or somebody else removes
        return None
    return size


def _last_beat(folder: Path) -> float:
    path = folder / HEARTBEAT if (folder / HEARTBEAT).exists() else folder / RUN
    return path.stat().st_mtime


def check_space(folder: Path, weights: int, state: int, epochs: int) -> None:
    """Check that the checkpoints of a training will fit on the disk.

    A checkpoint that is replaced is there until the new one is whole: one more epoch, and one more
    of those without a state (best, last, what is fitted before).

    Parameters
    ----------
    folder
        Where they will lie; what lies there already is counted as theirs.
    weights, state
        Bytes of a checkpoint without the state of training, and of the largest one with it.
    epochs
        How many are kept at once.

    Raises
    ------
    UserError
        When they will not.
    """
    there = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.parent.suffix != ASIDE
    )
    needed = (epochs + 1) * state + 4 * weights + SPARE_BYTES - there
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free and the checkpoints need "
            f"{needed / 1e6:,.0f} MB; free some space, or set trainer.work_dir or "
            "trainer.checkpoint_keep"
        )
