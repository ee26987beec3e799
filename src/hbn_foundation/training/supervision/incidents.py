"""The record of what a training met with: one JSON line per incident."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hbn_foundation.files import is_full_disk
from hbn_foundation.progress import say
from hbn_foundation.training.supervision.heartbeat import Beat

FILE = "incidents.jsonl"
KILLED, DAMAGED = "killed", "damaged"


@dataclass(frozen=True)
class Incident:
    """Something that ended a child, or its supervisor, before its time, or damaged what they left.

    Attributes
    ----------
    time
        ISO 8601, UTC, of the wall clock; `seconds` is since the start of the supervision.
    kind
        `silent`, `died`, `no_result`, `out_of_memory`, `device_error`, `error`, `time_limit`,
        `stopped`: of the child; `killed`: of the run before, with its supervisor; `damaged`: of a
        checkpoint.
    device, section, epoch, step
        Where the child was, by its last beat; epochs counted from 1, steps done.
    what
        One line: what happened.
    action
        One line: what was done.
    stack
        Python stacks of the child, its last lines on stderr, or a traceback.
    """

    time: str
    seconds: float
    kind: str
    device: str
    section: str
    epoch: int
    step: int
    what: str
    action: str
    stack: str


def now() -> str:
    """Give the time of the wall clock, for people."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def add_incident(folder: Path, incident: Incident) -> None:
    """Append an incident, on the disk when this returns."""
    with open(folder / FILE, "ab+") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) not in (b"", b"\n"):  # a line that a crash cut short
            file.write(b"\n")
        file.write(json.dumps(asdict(incident)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def record(
    folder: Path,
    beat: Beat,
    kind: str,
    what: str,
    action: str,
    *,
    seconds: float = 0.0,
    stack: str = "",
    name: str = "",
) -> None:
    """Record an incident and say it in a line; where the disk is full, only the line is left.

    Parameters
    ----------
    folder
        Of the run.
    beat
        The last one.
    kind, what, action, seconds, stack
        As of an `Incident`.
    name
        Of the training, where the line is to tell it from others.
    """
    incident = Incident(
        time=now(),
        seconds=round(seconds, 2),
        kind=kind,
        device=beat.device,
        section=beat.section,
        epoch=beat.epoch,
        step=beat.step,
        what=what,
        action=action,
        stack=stack,
    )
    try:
        add_incident(folder, incident)
    except OSError as error:
        if not is_full_disk(error):
            raise
        say(f"{folder}: disk full, the incident is told here alone")
    place = f"training on {beat.device}, {beat.section}, step {beat.step}" if beat.count else folder
    say(f"{name}{': ' if name else ''}{place}: {what}; {action}")


def read_incidents(folder: Path) -> list[Incident]:
    """Read the incidents of a run; a last line cut short by a crash is left out."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Incident(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def as_lines(incidents: list[Incident]) -> str:
    """Incidents as JSON lines; no incident gives an empty text."""
    return "".join(json.dumps(asdict(incident)) + "\n" for incident in incidents)
