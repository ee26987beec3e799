"""What goes wrong in a training: how an exception is classified, and the record of incidents.

Exceptions are told apart by names and texts, without torch: libraries raise many classes, and an
old torch has fewer. The record has one JSON line per incident.
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from hbn_foundation.errors import UserError
from hbn_foundation.files import is_full_disk
from hbn_foundation.progress import say
from hbn_foundation.training.supervision.heartbeat import Beat

FILE = "incidents.jsonl"
KILLED, DAMAGED = "killed", "damaged"
USER, OUT_OF_MEMORY, DEVICE, ERROR = "user", "out_of_memory", "device_error", "error"

#: Texts, in lower case, of a device or a host without enough memory.
NO_MEMORY = (
    "out of memory",  # CUDA, HIP, MPS, XPU
    "status_alloc_failed",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
    "cufft_alloc_failed",
    "memory allocation",  # cudaErrorMemoryAllocation, "failed memory allocation"
    "erroroutofmemory",
    "can't allocate memory",  # DefaultCPUAllocator
    "cannot allocate memory",
    "not enough memory",
    "alloc_cpu",
)
#: Texts, in lower case, of a device or its driver that failed; results after it cannot be trusted.
FAILED_DEVICE = re.compile(
    r"(cuda|hip|nccl|cudnn|miopen|cufft|triton|mps)( driver| runtime| internal)? error"
    r"|triton error|(cublas|cudnn|cusolver|cusparse|hipblas|rocblas|miopen)_?status"
    r"|cufft_|device-side assert|illegal (memory access|instruction|address)|misaligned address"
    r"|launch failure|launch timed out|uncorrectable|no cuda gpus|no nvidia driver"
    r"|no hip gpus|hiperror|cudaerror"
)


def classify(error: BaseException) -> str:
    """Sort an error: `user`, `out_of_memory`, `device_error` or `error`."""
    if isinstance(error, UserError):
        return USER
    classes = {one.__name__ for one in type(error).__mro__}
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    no_memory = isinstance(error, MemoryError) or "OutOfMemoryError" in classes
    if isinstance(error, OSError):
        no_memory = no_memory or error.errno == errno.ENOMEM
    if no_memory or any(part in text for part in NO_MEMORY):
        return OUT_OF_MEMORY
    failed = "AcceleratorError" in classes or FAILED_DEVICE.search(text)
    return DEVICE if failed else ERROR


@dataclass(frozen=True)
class Incident:
    """Something that ended a child or its supervisor early, or damaged a checkpoint.

    Kinds are `silent`, `died`, `no_result`, `out_of_memory`, `device_error`, `error`,
    `time_limit`, `stopped` of the child; `killed` of the run before, with its supervisor;
    `damaged` of a checkpoint.
    """

    time: str  # ISO 8601, UTC, of the wall clock
    seconds: float  # since the start of the supervision
    kind: str
    device: str
    section: str  # as of the last beat, also the epoch from 1, and the steps done
    epoch: int
    step: int
    what: str  # one line: what happened
    action: str  # one line: what was done
    stack: str  # Python stacks of the child, its last lines on stderr, or a traceback

    @classmethod
    def now(
        cls, beat: Beat, kind: str, what: str, action: str, seconds: float, stack: str = ""
    ) -> Incident:
        """Make an incident of this moment, at the place of the last beat."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        where = beat.device, beat.section, beat.epoch, beat.step
        return cls(time, round(seconds, 2), kind, *where, what, action, stack)


def record(folder: Path, incident: Incident, name: str = "") -> None:
    """Record an incident, on the disk when this returns, and log it in a line.

    Where the disk is full, only the line is left. It begins with the training's name, if one is
    given.
    """
    try:
        with open(folder / FILE, "ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            if file.read(1) not in (b"", b"\n"):  # a line that a crash cut short
                file.write(b"\n")
            file.write(as_lines([incident]).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if not is_full_disk(error):
            raise
        say(f"{folder}: disk full, the incident is not recorded")
    place: object = folder
    if incident.device:
        place = f"training on {incident.device}, {incident.section}, step {incident.step}"
    say(f"{name}{': ' if name else ''}{place}: {incident.what}; {incident.action}")


def read_incidents(folder: Path) -> list[Incident]:
    """Read the incidents of a run; a last line cut short by a crash is left out."""
    try:
        lines = (folder / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            incident = _INCIDENT.validate_json(line, strict=True)
            datetime.fromisoformat(incident.time)
            found.append(incident)
        except ValueError:
            continue
    return found


def as_lines(incidents: list[Incident]) -> str:
    """Incidents as JSON lines; no incident gives an empty text."""
    return "".join(json.dumps(asdict(incident)) + "\n" for incident in incidents)


_INCIDENT = TypeAdapter(Incident)
