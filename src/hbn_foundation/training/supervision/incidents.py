"""The record of what went wrong in a training: one JSON line per incident."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = "incidents.jsonl"


@dataclass(frozen=True)
class Incident:
    """Something that ended a child before its time.

    Attributes
    ----------
    time
        ISO 8601, UTC, of the wall clock; `seconds` is since the start of the supervision.
    kind
        `silent`, `died`, `no_result`, `out_of_memory`, `error`, `time_limit`, `stopped`.
    device, section, epoch, step
        Where the child was, by its last beat; epochs counted from 0 as in the history, steps done.
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
