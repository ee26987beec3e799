"""What the files of a training tell somebody who looks on: which run, how far, how it goes.

Reads only, and takes no lock: nothing here can disturb a training, or hang with one. Any file may
be missing, half written or damaged. Imports no torch and no pandas.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hbn_foundation.training.supervision import policy
from hbn_foundation.training.supervision.heartbeat import FILE as BEATS
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat
from hbn_foundation.training.supervision.incidents import FILE as INCIDENTS
from hbn_foundation.training.supervision.incidents import Incident, read_incidents
from hbn_foundation.training.supervision.link import STOPPED as ASKED
from hbn_foundation.training.supervision.link import TIME_LIMIT
from hbn_foundation.training.supervision.params import LIMITS, SupervisionParams
from hbn_foundation.training.supervision.process import FAILURE, RESULT
from hbn_foundation.training.supervision.run_folder import DONE, HISTORY, LOCK, REMOVED, RUN

RUNNING, RESTARTING, SILENT = "running", "between two attempts", "silent"
DONE_STATE, STOPPED, FAILED, KILLED = "done", "stopped", "failed", "killed"
REBOOTED = "the machine was started anew since"
ACTIVE = (RUNNING, RESTARTING, SILENT)

MODELS = "06_models"
PLACES = ("*_training/*", "*_training/folds/*/*", "*_comparison/*/*", "learning_curve/*/*/*")
NOT_SEARCHED = re.compile(r"\d\d_|\.")
DEEPEST = 4  # folders below the one that is searched
MOST_RUNS = 20  # the newest ones, among which a running one is looked for
MOST_EPOCHS_TIMED = 5
FRESH = 5.0  # seconds: so young a beat is of a child in a container, if none is seen from here


@dataclass(frozen=True)
class RunView:
    """A run at one moment.

    Attributes
    ----------
    folder
        Of the run.
    state
        One of the constants of this module.
    note
        Why it is in this state, or what to do; may be empty.
    beat
        The last one; None without a readable one.
    limit
        Seconds of silence that are too long.
    history
        One row per whole epoch.
    incidents
        Oldest first.
    seconds_left
        Of the epochs to come; None when it is not running, or cannot be told yet.
    """

    folder: Path
    state: str
    note: str
    beat: Beat | None
    limit: float | None
    history: list[dict[str, Any]]
    incidents: list[Incident]
    seconds_left: float | None


def find_runs(folder: Path) -> list[Path]:
    """Find the runs in a data folder, a folder of runs, or a run's folder; the latest come first.

    Of a data folder only the places of models are searched, since the recordings beside them can
    be many.
    """
    if (folder / RUN).is_file():
        return [folder]
    found = [path.parent for path in folder.glob(f"*/{RUN}")]
    for models in _model_folders(folder, DEEPEST):
        for place in PLACES:
            found += [path.parent for path in models.glob(f"{place}/{RUN}")]
    return sorted(set(found), key=_last_sign, reverse=True)


def watch(runs: list[Path]) -> RunView | None:
    """View the run to watch: the latest that is under way, or else the latest; None of none."""
    last = None
    for folder in runs[:MOST_RUNS]:
        view = view_run(folder)
        if view.state in ACTIVE:
            return view
        last = last or view
    return last


def view_run(folder: Path) -> RunView:
    """Read what the files of a run tell now."""
    beat = _sound(read_beat(folder) or read_beat(folder))  # it may just have been written
    history = read_history(folder)
    try:
        incidents = read_incidents(folder)
    except (OSError, ValueError):
        incidents = []
    limit = policy.silence_limit(beat, _limits(folder)) if beat is not None else None
    state, note = _state(folder, beat, limit, incidents)
    left = seconds_left(beat, history) if beat is not None and state == RUNNING else None
    return RunView(folder, state, note, beat, limit, history, incidents, left)


def _limits(folder: Path) -> SupervisionParams:
    """Give the limits of the run; the defaults where its file cannot be read."""
    try:
        return SupervisionParams(**_read_json(folder / LIMITS))
    except (TypeError, ValueError):
        return SupervisionParams()


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of the whole epochs; none when there is no readable file."""
    rows = _read_json(folder / HISTORY)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def seconds_left(beat: Beat, history: list[dict[str, Any]]) -> float | None:
    """Estimate the seconds until the last epoch's end, validations included where some were timed.

    Epochs on another device do not count; before the first whole one it is the median step's.
    """
    if not beat.steps or not beat.epochs:
        return None
    seconds = [
        value
        for row in history
        if row.get("device") == beat.device and (value := number(row.get("seconds"))) is not None
    ]
    steps = beat.steps - beat.step
    if seconds:
        return statistics.median(seconds[-MOST_EPOCHS_TIMED:]) * steps * beat.epochs / beat.steps
    return beat.median_step * steps if beat.median_step is not None else None


def best_epoch(history: list[dict[str, Any]]) -> int | None:
    """Give the position of the row with the lowest validation loss; None without a finite one."""
    losses = {
        position: loss
        for position, row in enumerate(history)
        if (loss := number(row.get("validation_loss"))) is not None
    }
    return min(losses, key=lambda position: losses[position]) if losses else None


def number(value: object) -> float | None:
    """Take a finite number; anything else gives None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _state(
    folder: Path, beat: Beat | None, limit: float | None, incidents: list[Incident]
) -> tuple[str, str]:
    """Tell the state of a run, and why."""
    result, failure = _read_json(folder / RESULT), _read_json(folder / FAILURE)
    reason = str(result.get("stopped", "")) if isinstance(result, dict) else ""
    if (folder / DONE).exists():
        return DONE_STATE, reason
    ended = bool(incidents) and _newer(folder / INCIDENTS, folder / BEATS)
    ended = ended or isinstance(result, dict) or isinstance(failure, dict)
    if beat is not None and _is_there(beat, ended):
        silent = beat.age is not None and limit is not None and beat.age > limit
        return (SILENT, "the supervisor ends it") if silent else (RUNNING, "")
    if _supervised(folder):
        if incidents and not reason and _newer(folder / INCIDENTS, folder / LOCK):
            return RESTARTING, incidents[-1].action
        return RUNNING, ""
    if isinstance(failure, dict):
        return FAILED, str(failure.get("message", ""))
    if reason:
        return STOPPED, "as asked; the same command goes on" if reason == ASKED else reason
    last = incidents[-1] if incidents and _newer(folder / INCIDENTS, folder / BEATS) else None
    if last is not None and last.action.startswith(("given up", "stopped")):
        return (STOPPED if last.kind in (ASKED, TIME_LIMIT) else FAILED), last.what
    note = "the same command goes on from the last checkpoint"
    if (folder / REMOVED).exists():
        note = "its checkpoints are removed, as newer runs came"
    return (REBOOTED if beat is not None and beat.age is None else KILLED), note


def _is_there(beat: Beat, ended: bool) -> bool:
    """Tell whether the child is there that gave a beat."""
    age = beat.age
    if age is None:
        return False
    process = process_age(beat.pid)
    if process is not None and process >= age - 1.0:  # else its number was given anew
        return True
    return not ended and age < max(FRESH, 3 * (beat.median_step or 0.0))


def _supervised(folder: Path) -> bool:
    """Tell whether the process is there that last locked the folder."""
    try:
        pid = int((folder / LOCK).read_text())
        locked = time.time() - (folder / LOCK).stat().st_mtime
    except (OSError, ValueError):
        return False
    process = process_age(pid)
    return process is not None and process >= locked - 2.0  # else its number was given anew


def process_age(pid: int) -> float | None:
    """Give the seconds since a process was started; None when there is none of this number.

    Where the system does not tell the time (other than Linux), the oldest age possible.
    """
    if pid <= 0:
        return None
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _age_unknown(pid)
    if status[0] in "ZX":  # ended, and only kept for its parent
        return None
    ticks: float = os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(status[19]) / ticks


def _age_unknown(pid: int) -> float | None:
    if os.name != "posix":  # there, the signal 0 would end it
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return math.inf


def _newer(path: Path, other: Path) -> bool:
    """Tell whether a file was written after another one, or the other is not there."""
    try:
        return path.stat().st_mtime >= other.stat().st_mtime
    except OSError:
        return not other.exists()


def _last_sign(folder: Path) -> float:
    """Time of the last beat; of the run's beginning without one."""
    times = []
    for name in (BEATS, RUN, LOCK):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)


def _model_folders(folder: Path, depth: int) -> list[Path]:
    """Find folders of models, not looking into the other numbered folders beside them."""
    if folder.name == MODELS:
        return [folder]
    if depth == 0:
        return []
    try:
        below = [entry for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
    return [
        found
        for entry in below
        if entry.name == MODELS or not NOT_SEARCHED.match(entry.name)
        for found in _model_folders(Path(entry.path), depth - 1)
    ]


def _sound(beat: Beat | None) -> Beat | None:
    """Give a beat whose values are of their types; anything else gives None."""
    if beat is None:
        return None
    empty = Beat()
    for part in fields(Beat):
        value, usual = getattr(beat, part.name), getattr(empty, part.name)
        if usual is None or isinstance(usual, float):
            sound = (value is None and usual is None) or number(value) is not None
            sound = sound or (part.name == "loss" and isinstance(value, float))  # NaN or infinite
        else:
            sound = isinstance(value, type(usual))
        if not sound:
            return None
    return beat if all(number(rate) is not None for rate in beat.learning_rates.values()) else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
