"""`hbn-foundation monitor`: shows the progress of a training in a second terminal.

Reads files, takes no lock, and can neither slow a training nor hang with one. Any file may be
missing, half written or damaged. Imports no torch and no pandas.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil
from pydantic import TypeAdapter
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hbn_foundation.errors import UserError
from hbn_foundation.progress import duration
from hbn_foundation.training.supervision import heartbeat, incidents, policy
from hbn_foundation.training.supervision.display import describe
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat
from hbn_foundation.training.supervision.incidents import Incident, read_incidents
from hbn_foundation.training.supervision.link import STOPPED as ASKED
from hbn_foundation.training.supervision.link import TIME_LIMIT
from hbn_foundation.training.supervision.params import LIMITS, SupervisionParams
from hbn_foundation.training.supervision.process import FAILURE, RESULT
from hbn_foundation.training.supervision.run_folder import DONE, HISTORY, LOCK, REMOVED, RUN

RUNNING, RESTARTING, SILENT = "running", "restarting", "silent"
DONE_STATE, STOPPED, FAILED, KILLED = "done", "stopped", "failed", "killed"
REBOOTED = "the machine was rebooted since"
STYLES = {RUNNING: "green", DONE_STATE: "green", RESTARTING: "yellow", STOPPED: "yellow"}

MODELS = "06_models"
NOT_SEARCHED = re.compile(r"\d\d_|\.|sub-")  # folders of a data folder that hold no runs
MAX_RUNS = 20  # the newest ones, among which a running one is looked for
SECONDS_BETWEEN_FRAMES = 1.0
FRAMES_BETWEEN_SEARCHES = 5  # a search lists folders, which may be on a slow disk
FRESH = 5.0  # seconds: a younger beat is of a running child, if only of one in a container
MAX_EPOCHS, MAX_INCIDENTS = 8, 5
OTHER_LINES = 20  # of a terminal, for all but the epochs
LOSSES = {"train_loss": "train", "validation_loss": "validation"}  # columns of the history
SCORES = ("accuracy", "balanced_accuracy", "nrmse")  # the first that there is, beside the judged
SPEED = {"learning_rate": "rate", "windows_per_second": "windows/s", "device": "device"}

Value = TypeVar("Value")


@dataclass(frozen=True)
class RunView:
    """A run at one moment."""

    folder: Path
    state: str  # one of the constants of this module
    note: str  # why it is in this state, or what to do; may be empty
    beat: Beat | None  # the last one
    limit: float  # seconds of silence that are too long
    history: list[dict[str, Any]]  # one row for each whole epoch
    incidents: list[Incident]  # oldest first


def monitor(folder: Path, once: bool = False, console: Console | None = None) -> None:
    """Show the running or the last run of a folder, once a second until Ctrl-C.

    Parameters
    ----------
    folder
        A data folder, a folder of runs, or a run's.
    once
        Show it once, as is also done without a terminal.
    console
        Where to draw.

    Raises
    ------
    UserError
        When the folder does not exist; when it is to be shown once and holds no run.
    """
    console = console or Console()
    nothing = f"{folder}: no training run here yet; expected {RUN} in a run's folder"
    if not folder.is_dir():
        raise UserError(f"{nothing}: there is no such folder")
    if once or not console.is_terminal:
        run = current_run(find_runs(folder))
        if run is None:
            raise UserError(nothing)
        console.print(draw(run))
        return
    drawn: RenderableType = ""
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for count in itertools.count():
                if count % FRAMES_BETWEEN_SEARCHES == 0:
                    runs = find_runs(folder)
                run = current_run(runs)
                drawn = draw(run, console.height) if run is not None else Text(nothing)
                live.update(drawn, refresh=True)
                time.sleep(SECONDS_BETWEEN_FRAMES)
    except KeyboardInterrupt:
        console.print()  # the terminal has written ^C
        console.print(drawn)


def find_runs(folder: Path) -> list[Path]:
    """Find the runs in a data folder, a folder of runs, or a run's folder; the latest come first.

    Of a data folder only the folders of models are searched, since the recordings beside them can
    be many.
    """
    found = []
    for place, folders, files in os.walk(folder):
        if {RUN, LOCK} <= {*files}:  # the first alone is also the record of a run of Kedro
            found.append(Path(place))
            folders.clear()
        folders[:] = [name for name in folders if name == MODELS or not NOT_SEARCHED.match(name)]
    files_of_a_run = (heartbeat.FILE, RUN, LOCK)
    return sorted(
        found, key=lambda run: max(_mtime(run / name) for name in files_of_a_run), reverse=True
    )


def current_run(runs: list[Path]) -> RunView | None:
    """View the latest run that is under way, or else the latest; None where there is none."""
    views = []
    for folder in runs[:MAX_RUNS]:
        views.append(view_run(folder))
        if views[-1].state in (RUNNING, RESTARTING, SILENT):
            return views[-1]
    return views[0] if views else None


def view_run(folder: Path) -> RunView:
    """Read the files of a run."""

    def read(name: str, parse: Callable[[bytes], Value], otherwise: Value) -> Value:
        try:
            return parse((folder / name).read_bytes())
        except (OSError, ValueError):
            return otherwise

    limits = read(LIMITS, SupervisionParams.model_validate_json, SupervisionParams())
    history: list[dict[str, Any]] = read(HISTORY, TypeAdapter(list[dict]).validate_json, [])
    beat = read_beat(folder)
    happened: list[Incident] = read(incidents.FILE, lambda _: read_incidents(folder), [])
    limit = policy.silence_limit(beat or Beat(), limits)
    state, note = _state(folder, beat, limit, happened)
    return RunView(folder, state, note, beat, limit, history, happened)


def _state(
    folder: Path, beat: Beat | None, limit: float, happened: list[Incident]
) -> tuple[str, str]:
    """Determine the state of a run, and the reason."""
    stopped, failure = _text(folder / RESULT, "stopped"), _text(folder / FAILURE, "message")
    if (folder / DONE).exists():
        return DONE_STATE, stopped
    age = beat.age if beat is not None else None
    recent = _mtime(folder / incidents.FILE) >= _mtime(folder / heartbeat.FILE)
    last = happened[-1] if happened and recent else None
    if _supervised(folder):
        if last is not None and not stopped:
            return RESTARTING, last.action
        silent = age is not None and age > limit
        return (SILENT, "the supervisor ends it") if silent else (RUNNING, "")
    if failure:
        return FAILED, failure
    if stopped:
        return STOPPED, "as asked; the same command resumes it" if stopped == ASKED else stopped
    if last is not None and last.action.startswith(("given up", "stopped")):
        return (STOPPED if last.kind in (ASKED, TIME_LIMIT) else FAILED), last.what
    fresh = max(FRESH, 3 * (beat.median_step or 0.0)) if beat is not None else 0.0
    if age is not None and age < fresh:
        return RUNNING, ""
    note = "the same command resumes from the last checkpoint"
    if (folder / REMOVED).exists():
        note = "its checkpoints are removed, as newer runs came"
    return (REBOOTED if beat is not None and age is None else KILLED), note


def _mtime(path: Path) -> float:
    """Time when a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _text(path: Path, key: str) -> str:
    """Read a text in a JSON file; empty where there is none."""
    try:
        return str(json.loads(path.read_bytes()).get(key, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _supervised(folder: Path) -> bool:
    """Tell whether the process that last locked the folder is running."""
    try:
        process = psutil.Process(int((folder / LOCK).read_text()))
        # started later, it is another process to which the same number was given
        before = process.create_time() < _mtime(folder / LOCK) + 2.0
        return before and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, OverflowError, psutil.Error):
        return False


def draw(run: RunView, height: int = 100) -> RenderableType:
    """Draw the state of a run, and as many epochs and incidents as so many lines have room for."""
    most = max(2, height - OTHER_LINES)
    # a run of a fold has a folder to itself, which is named after it
    name = run.folder.parent.name if run.folder.name == "training" else run.folder.name
    parts: list[RenderableType] = [Rule(Text(name, "bold"), style="dim"), state_table(run)]
    if run.history:
        parts += ["", epoch_table(run.history, run.beat or Beat(), min(MAX_EPOCHS, most))]
    return Group(*parts, "", incident_lines(run.incidents, min(MAX_INCIDENTS, most)))


def state_table(run: RunView) -> Table:
    """Show the progress of a run."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, content: Any) -> None:
        table.add_row(name, Text(content) if isinstance(content, str) else content)

    beat = run.beat
    state = Text(run.state, f"bold {STYLES.get(run.state, 'red')}")
    if beat is not None and run.state == RUNNING:
        state.append(f", {beat.section.replace('_', ' ')}", "default")
    row("state", state)
    if run.note:
        row("", run.note)
    if beat is not None:
        row("now", describe(beat))
        if beat.steps:
            row("step", f"{beat.step} of {beat.steps} ({beat.step / beat.steps:.0%})")
            row("", ProgressBar(total=beat.steps, completed=beat.step, width=40))
        row("phase", beat.phase)
        row("device", beat.device)
        if beat.best_by:
            row("best", best_score(run.history, beat))
        if beat.learning_rates:
            row("rates", "\n".join(rate_lines(beat.learning_rates)))
    row("heartbeat", heartbeat_age(beat, run.limit))
    row("folder", str(run.folder))
    return table


def heartbeat_age(beat: Beat | None, limit: float) -> Text:
    """Write the age of the last beat, in red where it is over the limit."""
    if beat is None:
        return Text("none yet")
    if beat.age is None:
        return Text("before the machine was rebooted")
    age = Text(f"{duration(beat.age, 1)} ago", "red" if beat.age > limit else "green")
    return age.append(f", too old after {duration(limit)}", "dim")


def rate_lines(rates: dict[str, float]) -> list[str]:
    """Write the learning rates of groups, one line for all blocks with the same rate.

    Groups are named `<block>/decay` and `<block>/no_decay`.
    """
    blocks: dict[str, dict[str, None]] = {}
    for name, rate in rates.items():
        blocks.setdefault(f"{rate:.2e}", {})[name.partition("/")[0]] = None
    if len(blocks) == 1:
        return [f"{rate}  all blocks" for rate in blocks]
    return [f"{rate}  {', '.join(names)}" for rate, names in blocks.items()]


def best_score(history: list[dict[str, Any]], beat: Beat) -> str:
    """Write the best and the last value of what chooses the best epoch."""
    name = f"validation {beat.best_by.removeprefix('validation_').replace('_', ' ')}"
    best = best_row(history, beat)
    if not best:
        return f"no epoch yet, by {name}"
    values = [number(row.get(beat.best_by, "-")) for row in (best[0], history[-1])]
    return f"epoch {beat.best_epoch}, by {name}: {values[0]}, in the last epoch {values[1]}"


def best_row(history: list[dict[str, Any]], beat: Beat) -> list[dict[str, Any]]:
    """Find the row of the best epoch; none where it is not known."""
    return [row for row in history if row.get("epoch") == beat.best_epoch is not None][-1:]


def number(value: Any) -> str:
    """Write a value of the history."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def epoch_table(history: list[dict[str, Any]], beat: Beat, most: int) -> Table:
    """Show the last epochs, and the best one even if it was earlier."""
    named = {beat.judged, beat.best_by, next((n for n in SCORES if n in history[-1]), "")}
    known = sorted(name for name in named - {*LOSSES} if name in history[-1])
    scores = {name: name.replace("_", " ") for name in known}
    columns = {"epoch": "epoch", **LOSSES, **scores, **SPEED}
    best, shown = best_row(history, beat), history[-most:]
    if best and best[0] not in shown:
        shown = [*best, *shown[1:]]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("", *columns.values()):
        table.add_column(name, no_wrap=True)
    for row in shown:
        cells = [number(row.get(name, "-")) for name in columns]
        style = "bold green" if row in best else None
        table.add_row("best" if row in best else "", *map(Text, cells), style=style)
    return table


def incident_lines(happened: list[Incident], most: int) -> Text:
    """Show the last incidents, by the local clock, with the date of another day."""
    lines = [] if happened else [Text("no incident", "dim")]
    for one in happened[-most:]:
        moment = datetime.fromisoformat(one.time).astimezone()
        today = moment.date() == datetime.now().astimezone().date()
        line = Text(moment.strftime("%H:%M:%S " if today else "%Y-%m-%d %H:%M "))
        line.append(one.kind, "yellow")
        lines.append(line.append(f" {one.device} step {one.step}: {one.what}; {one.action}"))
    if len(happened) > most:
        lines.append(Text(f"and {len(happened) - most} earlier in {incidents.FILE}", "dim"))
    return Text("\n").join(lines)
