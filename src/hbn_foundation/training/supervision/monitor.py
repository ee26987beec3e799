"""`hbn-foundation monitor`: shows in a second terminal how a training goes.

Draws what `run_view` reads, and nothing else: it can neither slow a training nor hang with one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hbn_foundation.errors import UserError
from hbn_foundation.progress import duration
from hbn_foundation.training.supervision import heartbeat
from hbn_foundation.training.supervision import run_view as view
from hbn_foundation.training.supervision.heartbeat import Beat
from hbn_foundation.training.supervision.incidents import Incident
from hbn_foundation.training.supervision.run_view import RunView, find_runs, number, watch

SECONDS_BETWEEN_FRAMES = 1.0
FRAMES_BETWEEN_SEARCHES = 5  # a search lists folders, which may be on a slow disk
MOST_EPOCHS, MOST_INCIDENTS = 8, 5
SMALLER = [(8, 3), (6, 3), (4, 3), (4, 2), (2, 2), (2, 1)]  # the same on low terminals
WIDE = 70  # columns from which every column of the tables is shown
STYLES = {
    view.RUNNING: "green",
    view.DONE_STATE: "green",
    view.RESTARTING: "yellow",
    view.STOPPED: "yellow",
}
SECTIONS = {
    heartbeat.START: "start",
    heartbeat.FIRST_STEP: "first step",
    heartbeat.STEP: "training",
    heartbeat.EVALUATION: "validation",
    heartbeat.CHECKPOINT: "checkpoint",
    heartbeat.END: "end",
}


def monitor(folder: Path, once: bool = False, console: Console | None = None) -> None:
    """Show the running or the last run of a folder, each second anew until Ctrl-C.

    Parameters
    ----------
    folder
        A data folder, a folder of runs, or a run's.
    once
        Show it once; so it is also where there is no terminal.
    console
        Where to draw.

    Raises
    ------
    UserError
        When the folder does not exist; when it is to be shown once and holds no run.
    """
    console = console or Console()
    if not folder.is_dir():
        raise UserError(f"{nothing_in(folder)}: there is no such folder")
    if once or not console.is_terminal:
        found = watch(find_runs(folder))
        if found is None:
            raise UserError(nothing_in(folder))
        console.print(draw(found, console.width))
        return
    frame = _frames(folder, console)
    try:
        with Live(frame(), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(SECONDS_BETWEEN_FRAMES)
                live.update(frame(), refresh=True)
    except KeyboardInterrupt:
        console.print()  # the terminal has written ^C
        console.print(frame())


def _frames(folder: Path, console: Console) -> Callable[[], RenderableType]:
    """Make the function that draws the next frame."""
    runs: list[Path] = []
    count = 0

    def frame() -> RenderableType:
        nonlocal runs, count
        if count % FRAMES_BETWEEN_SEARCHES == 0:
            runs = find_runs(folder)
        count += 1
        found = watch(runs)
        if found is None:
            return Text(nothing_in(folder))
        return fit(found, console)

    return frame


def nothing_in(folder: Path) -> str:
    """Say in one line that there is nothing to show."""
    return f"{folder}: no training run here yet; expected {view.RUN} in a run's folder"


def fit(run: RunView, console: Console) -> RenderableType:
    """Draw a run with as many epochs and incidents as a terminal has room for."""
    drawn = draw(run, console.width)
    for epochs, incidents in SMALLER:
        if len(console.render_lines(drawn)) <= console.height:
            break
        drawn = draw(run, console.width, epochs, incidents)
    return drawn


def draw(
    run: RunView, width: int, epochs: int = MOST_EPOCHS, incidents: int = MOST_INCIDENTS
) -> RenderableType:
    """Draw the state of a run, its last epochs and incidents, for so many columns."""
    parts: list[RenderableType] = [
        Rule(Text(name_of(run.folder), "bold"), style="dim"),
        state_table(run),
    ]
    if run.history:
        parts += ["", epoch_table(run.history, epochs, width >= WIDE)]
    parts += ["", incident_table(run, incidents, width >= WIDE)]
    return Group(*parts)


def name_of(folder: Path) -> str:
    """Name a run: one of a fold has a folder to itself, which is named after it."""
    return folder.parent.name if folder.name == "training" else folder.name


def state_table(run: RunView) -> Table:
    """Tell where a run is and how fast."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    state = Text(run.state, f"bold {STYLES.get(run.state, 'red')}")
    beat = run.beat
    if beat is not None and run.state == view.RUNNING:
        state.append(f", {SECTIONS.get(beat.section, beat.section)}", "default")
    table.add_row("state", state)
    if run.note:
        table.add_row("", Text(run.note))
    if beat is None:
        table.add_row("heartbeat", "none yet")
    else:
        _add_beat(table, run, beat)
    table.add_row("folder", Text(str(run.folder), "dim"))
    return table


def _add_beat(table: Table, run: RunView, beat: Beat) -> None:
    table.add_row("device", beat.device or "-")
    if beat.epochs:
        table.add_row("epoch", f"{beat.epoch} of {beat.epochs}")
    elif run.history:
        table.add_row("epoch", f"{len(run.history)} whole ones")
    if beat.steps:
        table.add_row("step", f"{beat.step} of {beat.steps} ({beat.step / beat.steps:.0%})")
        table.add_row("", ProgressBar(total=beat.steps, completed=beat.step, width=40))
    if run.seconds_left is not None:
        table.add_row("time left", f"about {duration(run.seconds_left)}")
    speed = []
    if beat.windows_per_second:
        speed.append(f"{beat.windows_per_second:.0f} windows/s")
    if beat.median_step:
        speed.append(f"{beat.median_step:.3g} s per step")
    if speed:
        table.add_row("speed", ", ".join(speed))
    if beat.loss is not None:
        table.add_row("loss", f"{beat.loss:.4f} in the last step")
    for position, line in enumerate(rate_lines(beat.learning_rates)):
        table.add_row("" if position else "rates", line)
    table.add_row("heartbeat", heartbeat_age(run, beat))


def heartbeat_age(run: RunView, beat: Beat) -> Text:
    """Tell the age of the last beat, in colour where it grows too old."""
    if beat.age is None:
        return Text("before the machine was started anew")
    text = Text(f"{duration(beat.age, 1)} ago")
    if run.state in (view.RUNNING, view.SILENT) and run.limit is not None:
        share = beat.age / run.limit
        text.stylize("red" if share > 1 else "yellow" if share > 1 / 3 else "green")
        text.append(f", too old after {duration(run.limit)}", "dim")
    return text


def rate_lines(rates: dict[str, float]) -> list[str]:
    """Tell the learning rates, one line for all groups with the same one.

    Parameters
    ----------
    rates
        By group; groups are named `<block>/decay` and `<block>/no_decay`.
    """
    groups: dict[str, list[str]] = {}
    for name, rate in rates.items():
        groups.setdefault(f"{rate:.2e}", []).append(name)
    if len(groups) == 1:
        return [f"{rate}  all {len(names)} groups" for rate, names in groups.items()]
    return [f"{rate}  {', '.join(_whole_blocks(names))}" for rate, names in groups.items()]


def _whole_blocks(names: list[str]) -> list[str]:
    """Name a block once when both of its groups are there."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        blocks.setdefault(name.partition("/")[0], []).append(name)
    return [block if len(found) > 1 else found[0] for block, found in blocks.items()]


def epoch_table(history: list[dict[str, Any]], rows: int, wide: bool) -> Table:
    """Show the last epochs, and the best one though it was earlier."""
    best = view.best_epoch(history)
    shown = list(range(max(len(history) - rows, 0), len(history)))
    if best is not None and best not in shown:
        shown = [best, *shown[1:]]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("epoch", "train", "validation", ""):
        table.add_column(name, justify="left" if name == "" else "right")
    if wide:
        table.add_column("rate", justify="right")
        table.add_column("windows/s", justify="right")
    table.add_column("device")
    for position in shown:
        row = history[position]
        epoch = number(row.get("epoch"))
        cells = [
            "-" if epoch is None else f"{epoch:.0f}",
            _figure(row.get("train_loss"), ".4f"),
            _figure(row.get("validation_loss"), ".4f"),
            "best" if position == best else "",
        ]
        if wide:
            cells += [
                _figure(row.get("learning_rate"), ".2e"),
                _figure(row.get("windows_per_second"), ".0f"),
            ]
        style = "bold green" if position == best else None
        table.add_row(*cells, Text(str(row.get("device", "-"))), style=style)
    return table


def incident_table(run: RunView, rows: int, wide: bool) -> RenderableType:
    """Show the last incidents, one above the other where columns have no room."""
    if not run.incidents:
        return Text("no incident", "dim")
    shown = run.incidents[-rows:]
    lines: list[RenderableType] = [_incident_columns(shown)] if wide else []
    if not wide:
        for one in shown:
            line = Text(f"{_clock(one.time)} ")
            line.append(f"{one.kind}", "yellow")
            lines.append(line.append(f" {one.device} step {one.step}: {one.what}; {one.action}"))
    earlier = len(run.incidents) - rows
    if earlier > 0:
        lines.append(Text(f"and {earlier} earlier in {view.INCIDENTS}", "dim"))
    return Group(*lines)


def _incident_columns(incidents: list[Incident]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("incident", "kind", "device", "step"):
        table.add_column(name, no_wrap=True, justify="right" if name == "step" else "left")
    table.add_column("what was done", overflow="fold", ratio=1)
    for one in incidents:
        table.add_row(
            _clock(one.time),
            Text(str(one.kind), "yellow"),
            Text(str(one.device)),
            str(one.step),
            Text(f"{one.what}; {one.action}"),
        )
    return table


def _figure(value: object, form: str) -> str:
    found = number(value)
    return "-" if found is None else format(found, form)


def _clock(time_of_incident: object) -> str:
    """Give a time of the record as the local clock's, with the date of another day."""
    try:
        moment = datetime.fromisoformat(str(time_of_incident)).astimezone()
    except ValueError:
        return "-"
    today = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")
