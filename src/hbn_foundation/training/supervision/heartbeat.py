"""The heartbeat: one small file that the child overwrites after each step and others read.

Ages are of the monotonic clock, which does not follow changes of the date and which all processes
of a machine share until it is rebooted.
"""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

SIZE = 4096  # of the file, always: a shorter beat leaves nothing of a longer one
FILE = "heartbeat.json"
CHECK = "crc32"  # a reader can meet a write halfway: two halves of two beats do not fit it
READ_ATTEMPTS = 5

START, FIRST_STEP, STEP = "start", "first_step", "step"
EVALUATION, CHECKPOINT, END = "evaluation", "checkpoint", "end"


@dataclass(frozen=True)
class Beat:
    """The state of a training after its last step or section."""

    count: int = 0  # beats so far; a beat is new when this is
    section: str = START  # what goes on since this beat, one of the constants above
    epoch: int = 0  # from 1
    epochs: int = 0  # how many there are to be
    step: int = 0  # optimizer steps done
    steps: int = 0
    loss: float | None = None  # of the last step
    windows_per_second: float | None = None
    learning_rates: dict[str, float] = field(default_factory=dict)  # by parameter group
    median_step: float | None = None  # seconds, of the last steps
    seconds_left: float | None = None  # to the last step, validations and checkpoints included
    device: str = ""
    phase: str = ""  # what is trained in it
    judged: str = ""  # metric that a plan looks at, where it is not the loss
    best_by: str = ""  # column of the history that chooses the best epoch
    best_epoch: int | None = None  # so far
    pid: int = 0
    boot: str = ""
    monotonic: float = 0.0  # when

    @property
    def age(self) -> float | None:
        """Seconds since this beat; None when the machine was rebooted since."""
        return time.monotonic() - self.monotonic if self.boot == boot_id() else None


def read_beat(folder: Path) -> Beat | None:
    """Read the last beat; None when there is none, or none whole."""
    for _ in range(READ_ATTEMPTS):
        try:
            text = (folder / FILE).read_bytes()
            values = json.loads(text)
            if values.pop(CHECK) == _check(values):
                return _BEAT.validate_json(text, strict=True)
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def encoded(beat: Beat) -> bytes:
    """Encode a beat as the whole file."""
    text = with_checksum(asdict(beat))
    if len(text) > SIZE:  # very many parameter groups
        text = with_checksum({**asdict(beat), "learning_rates": {}})
    return text.ljust(SIZE)


def with_checksum(values: dict[str, Any]) -> bytes:
    """Encode the values of a beat with their checksum."""
    return json.dumps({**values, CHECK: _check(values)}, separators=(",", ":")).encode()


def _check(values: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(values).encode())


def boot_id() -> str:
    """Return the id of this boot of the machine; empty where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


_BEAT = TypeAdapter(Beat)
